"""The model on a device: what its layers request, sample by sample, and its trained run."""
