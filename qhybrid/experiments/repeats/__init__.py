"""A recipe repeated over seeds and folds, and repeats compared."""
