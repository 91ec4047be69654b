"""Load a trained run with a split of its data."""

from __future__ import annotations

from pathlib import Path

from qhybrid.data.images.image_datasets import is_image_dataset
from qhybrid.evaluation.subject.images import ImageSubject
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.training.run_folder import read_recipe


def load_subject(
    folder: str | Path, which: str, split: str, samples: int | None, data_root: str | Path
) -> Subject:
    """Load a trained run and its test set.

    Args:
        folder: The run folder.
        which: Weights of the `best` or of the `last` epoch.
        split: The split to evaluate.
        samples: Images or scenes at most; all if None.
        data_root: Folder that the recipe's `data.root` is relative to.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        DataError: If the data are unusable.
    """
    recipe = read_recipe(Path(folder))
    kind = ImageSubject if is_image_dataset(recipe.data.dataset) else SceneSubject
    return kind(Path(folder), which, split, samples, Path(data_root))
