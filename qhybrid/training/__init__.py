"""Training: from a recipe to a run folder, and back from a run folder to a trained model."""

from qhybrid.training.run_folder import LoadedRun, load_run
from qhybrid.training.train import train

__all__ = ["LoadedRun", "load_run", "train"]
