"""Noise and shot sweeps: trained runs under many conditions, each cell computed once."""

from qhybrid.experiments.sweeps.run import SweepOutcome, run_sweep, sweep_folder
from qhybrid.experiments.sweeps.tables import read_cells, read_results

__all__ = ["SweepOutcome", "read_cells", "read_results", "run_sweep", "sweep_folder"]
