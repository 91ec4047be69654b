"""What executes jobs, behind one interface: this machine, or a service of real devices."""
