"""Load a trained run, alone or with a split of its data; meta.json says of which kind it is."""

from __future__ import annotations

import json
from pathlib import Path

from qhybrid.errors import CheckpointError, DatasetNotFoundError
from qhybrid.evaluation.other_data import OtherData
from qhybrid.evaluation.subject.images import ImageSubject
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.training.data_record import read_record
from qhybrid.training.images.run import LoadedImageRun, load_image_run
from qhybrid.training.run_folder import META, LoadedRun, Which, existing, load_run


def load_trained(folder: str | Path, which: Which = "best") -> LoadedRun | LoadedImageRun:
    """Rebuild the trained model of a run folder, on scenes or on whole images.

    Args:
        folder: The run folder.
        which: Weights of the `best` or of the `last` epoch.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
    """
    root = Path(folder)
    kept = existing(root, which)
    file = next((file for name in (kept, "last") if (file := root / name / META).is_file()), None)
    if file is None:
        return load_run(root, which)  # it says what is missing
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged: {error!r}. Fix: start a new run.") from error
    if kind not in (None, "images"):
        raise CheckpointError(
            f"{file}: key `kind` must be `images`, or be absent for scenes, but is {kind!r}. Fix: use the "
            "version of qhybrid that trained the run."
        )
    return load_run(root, which) if kind is None else load_image_run(root, which)


def load_subject(
    folder: str | Path, which: Which, split: str, samples: int | None, data_root: str | Path
) -> Subject:
    """Load a trained run and a split of its data.

    Args:
        folder: The run folder.
        which: Weights of the `best` or of the `last` epoch.
        split: The split.
        samples: Images or scenes at most, from the first; all if None.
        data_root: Folder that the recipe's `data.root` is relative to.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        DataError: If the data are unusable.
    """
    return subject_of(load_trained(folder, which), split, samples, data_root)


def subject_of(
    run: LoadedRun | LoadedImageRun,
    split: str,
    samples: int | None,
    data_root: str | Path,
    other: OtherData | None = None,
) -> Subject:
    """Return a loaded run with a split of its data, or of others; see `load_subject`."""
    root = Path(data_root)
    try:
        if isinstance(run, LoadedImageRun):
            return ImageSubject(run, split, samples, root, other)
        return SceneSubject(run, split, samples, root, other)
    except DatasetNotFoundError as error:
        record = None if other is not None else read_record(run.folder)
        if record is None or record.data_root == str(root.absolute()):
            raise
        raise DatasetNotFoundError(
            f"{error} The run was trained with --data-root {record.data_root}."
        ) from error
