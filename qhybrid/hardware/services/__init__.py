"""What executes jobs, behind one interface: this machine, or IBM's service."""
