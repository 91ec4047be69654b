"""One face of a trained run with a split of its data."""
