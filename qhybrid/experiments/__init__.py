"""One recipe many times: repeats over seeds and folds, their comparison, sweeps."""
