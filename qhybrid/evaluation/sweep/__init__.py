"""Noise and shot sweeps: trained runs under many conditions, each cell computed once."""

from qhybrid.evaluation.sweep.run import SweepOutcome, run_sweep, sweep_folder
from qhybrid.evaluation.sweep.tables import read_cells, read_results

__all__ = ["SweepOutcome", "read_cells", "read_results", "run_sweep", "sweep_folder"]
