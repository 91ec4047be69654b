"""Training on whole images."""
