"""Training: from a recipe to a run folder, and back from a run folder to a trained model."""

from typing import TYPE_CHECKING, Any

from qhybrid.training.run_folder import LoadedRun, load_run

if TYPE_CHECKING:
    from qhybrid.training.training_run import train

__all__ = ["LoadedRun", "load_run", "train"]


def __getattr__(name: str) -> Any:
    """Import `train` when it is first asked for: Lightning takes seconds and 150 MiB."""
    if name == "train":
        from qhybrid.training.training_run import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
