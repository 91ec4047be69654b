"""Scenes and labels: reading, splitting, sampling, augmenting, writing."""
