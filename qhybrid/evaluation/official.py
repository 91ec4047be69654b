"""Which results of a run are official: those on the data that it was trained with.

Results on anything else stand beside them under a name of their own and never take their place.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from qhybrid.config import EngineConfig
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import WorkspaceError
from qhybrid.evaluation.common import METRICS, ON, evaluation_folder
from qhybrid.training.data_record import read_record
from qhybrid.training.run_folder import RECIPE, Which

_SHORT = 8
_OFFICIAL = tuple(f"{split}-" for split in SPLITS)


def result_folder(
    run: Path,
    split: str,
    engine: EngineConfig,
    which: Which,
    digest: str | None,
    on: str | None,
    data_root: Path,
    seed: int,
) -> tuple[Path, str | None]:
    """Return where results go, and the name of the data if they are not the run's own.

    Args:
        run: The run folder.
        split: The split.
        engine: What executes the circuits.
        which: Which weights.
        digest: Identity of the split's data as they are now; None if it cannot be told.
        on: Name of other data that were asked for.
        data_root: Folder that the data were found in, for the name of data that differ.
        seed: The recipe's seed.

    Warns:
        UserWarning: If the run's own data were asked for, but others are there.
    """
    official = evaluation_folder(run, split, engine, which, seed=seed)
    if on is None:
        if not differs(run, split, official, digest):
            return official, None
        name = f"{data_root.resolve().name}-{(digest or 'unknown')[:_SHORT]}"
        target = evaluation_folder(run, split, engine, which, name, seed)
        warnings.warn(
            f"{data_root}: split {split} differs from the data that the run was trained with (data.json), or "
            f"evaluated on before. The official result stays; this one goes to {target}.",
            stacklevel=3,
        )
        return target, name
    target = evaluation_folder(run, split, engine, which, on, seed)
    if _digest_in(target, digest) != digest:  # other data of the same name
        on = f"{on}-{(digest or 'unknown')[:_SHORT]}"
        target = evaluation_folder(run, split, engine, which, on, seed)
    return target, on


def differs(run: Path, split: str, official: Path, digest: str | None) -> bool:
    """Return whether data are others than those of a run's official result.

    These are the ones that the run was trained with; of runs of earlier versions, which do not say, those
    that it was first evaluated on.

    Args:
        run: The run folder.
        split: The split.
        official: Folder of the official result.
        digest: Identity of the data; None if it cannot be told.
    """
    record = read_record(run)
    recorded = None if record is None else record.hashes.get(split)
    return digest != (recorded or _digest_in(official, digest))


def _digest_in(folder: Path, otherwise: str | None) -> str | None:
    """Return the identity that an evaluation notes; `otherwise` if there is none, or none is noted."""
    try:
        content: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return content.get("data_hash") or otherwise
    except (OSError, ValueError, AttributeError):
        return otherwise


def check_output(output: Path, target: Path, *, apart: bool) -> None:
    """Check that results are not written where other ones belong, of this run or of another.

    A run's folder `evaluation` holds its results under the names that they get by themselves; what is judged
    there by its name must be what the name says.

    Args:
        output: Where they shall go.
        target: Where they go by themselves.
        apart: Whether they are of other data than the run's own, or of data that are read in another way.

    Raises:
        WorkspaceError: If other results belong there.
    """
    place, own = output.resolve(), target.resolve()
    if place == own or place.parent.name != own.parent.name or not (place.parent.parent / RECIPE).is_file():
        return
    allowed = place.name.startswith(ON) if apart else not place.name.startswith((ON, *_OFFICIAL))
    if place.parent != own.parent or not allowed:
        what = "results on other data, or on data read in another way, than the run's own"
        raise WorkspaceError(
            f"{output}: {what if apart else 'these results'} must not stand where "
            f"{'official' if apart else 'other'} ones do; they belong in {target}. Fix: leave --output out, "
            f"or choose a folder outside {output.parent}."
        )
