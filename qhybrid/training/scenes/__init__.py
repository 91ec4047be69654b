"""Training on patches of scenes."""
