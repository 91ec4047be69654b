"""`diagnose_run`: what a trained model does with its circuits, kept in diagnosis.json."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from qhybrid.config.numbers import whole_number
from qhybrid.errors import ConfigError, DataError, QHybridError
from qhybrid.evaluation.diagnosis.comparing import headline, measure, stated_margin
from qhybrid.evaluation.diagnosis.evidence import gradients
from qhybrid.evaluation.diagnosis.pictures import draw_diagnosis
from qhybrid.evaluation.diagnosis.trials import Show, Trials, output_shares, plain
from qhybrid.evaluation.diagnosis.units import SampledUnits, SceneUnits, Units
from qhybrid.evaluation.subject.load import load_subject, subject_of
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject, weights_hash
from qhybrid.metrics.margin import check_margin
from qhybrid.training.run_folder import Which
from qhybrid.version import __version__
from qhybrid.workspace import data_root as default_data_root
from qhybrid.workspace import write_text

VERSION = 1
"""Counted up when the file says things in another form."""
NUMBERS = 3
"""Counted up when the same options give other numbers."""
FOLDER, FILE, PICTURE = "diagnosis", "diagnosis.json", "diagnosis.png"


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """A finished diagnosis.

    Attributes:
        content: What diagnosis.json holds.
        folder: Where it lies.
        again: Whether it was read back instead of computed.
    """

    content: dict[str, Any]
    folder: Path
    again: bool = False

    @property
    def verdict(self) -> str:
        """The verdict on all layers that were looked at, in one sentence."""
        return str(self.content["targets"][-1]["sentence"])

    @property
    def kind(self) -> str:
        """The verdict in a word: see `qhybrid.evaluation.diagnosis.wording`."""
        return str(self.content["targets"][-1]["kind"])

    def __repr__(self) -> str:
        """Return the verdict and the folder; the numbers are in `content`."""
        return f"Diagnosis({self.verdict!r}, folder={str(self.folder)!r})"


@dataclass(frozen=True)
class _Asked:
    """Options of a diagnosis, checked."""

    layers: tuple[str, ...]
    margin: float
    samples: int | None
    seed: int


def diagnose_run(
    folder: str | Path,
    split: str = "test",
    *,
    layers: Sequence[str] | None = None,
    margin: float | None = None,
    samples: int | None = None,
    seed: int = 0,
    which: Which = "best",
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    output: str | Path | None = None,
    show: Show | None = None,
) -> Diagnosis:
    """Replace the outputs of a trained model's quantum layers, and judge what that does to its metric.

    Every layer is replaced by itself, then all of them at once. The model is not changed, and nothing is
    trained but regressions on the layers' angles. The result is kept; the same weights, data and options are
    read back.

    Args:
        folder: The run folder.
        split: `train`, `val` or `test`.
        layers: Dotted names of the layers; all if absent.
        margin: Differences of the metric up to it do not matter, as a fraction: 0.005 is 0.005 mIoU or half a
            point of accuracy. The recipe's `ablation.margin` if absent.
        samples: Images, or windows of scenes, at most, drawn at random. Absent: all images; of scenes all
            pixels, through the windows and the blending of `evaluate`.
        seed: Decides the samples, permutations, redrawn angles and shots.
        which: Weights of the best or of the last epoch.
        data_root: Folder that `data.root` is relative to; QHYBRID_DATA or ./data if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it is loaded if absent.
        output: Folder for the results; `<run>/diagnosis/<split>` if absent, with a hash for other options.
        show: Called with stages and their progress.

    Returns:
        The diagnosis; diagnosis.json and diagnosis.png lie in its folder.

    Raises:
        ConfigError: If the model has no quantum layers, none of a name, or an option is out of range.
        DataError: If the data are unusable.
        EngineError: If a layer's rows cannot be told to samples, or it is never called.
    """
    root = default_data_root(data_root)
    samples = None if samples is None else whole_number("samples", samples, 2)
    seed = whole_number("seed", seed)
    subject = load_subject(folder, which, split, None, root)
    metric, _ = headline(subject.task)
    usual = stated_margin(subject.recipe, metric)
    check_margin(usual if margin is None else margin, metric, "Argument `margin`")
    asked = _Asked(check_layers(subject, layers), usual if margin is None else margin, samples, seed)
    key = _key(subject, asked, root)
    target = Path(output) if output is not None else _folder(subject, asked, usual)
    kept = read_diagnosis(target)
    if kept is not None and kept.get("key") == key and (target / PICTURE).is_file():
        return Diagnosis(kept, target, again=True)
    found = _diagnosed(subject, asked, root, device, show or (lambda *_: None))
    text = json.dumps({"format": VERSION, "key": key, **found}, indent=2)
    content = json.loads(text)  # as it will be read back
    draw_diagnosis(content, target / PICTURE)
    write_text(target / FILE, f"{text}\n")
    return Diagnosis(content, target)


def check_layers(subject: Subject, layers: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the layers to look at.

    Raises:
        ConfigError: If the model has none, or none of a name.
    """
    present = subject.layers
    if not present:
        raise ConfigError(
            f"{subject.folder}: the model has no quantum layers, so there is nothing to diagnose."
        )
    unknown = [name for name in layers or () if name not in present]
    if unknown:
        raise ConfigError(
            f"No quantum layer named {', '.join(unknown)}. Quantum layers: {', '.join(present)}."
        )
    return tuple(present) if not layers else tuple(name for name in present if name in set(layers))


def read_diagnosis(folder: Path) -> dict[str, Any] | None:
    """Return the content of a folder's diagnosis.json; None if there is none that can be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("format") == VERSION else None


def _key(subject: Subject, asked: _Asked, root: Path) -> str:
    """Return the hash of all that decides the numbers: weights, data, engines, options."""
    try:
        training: str | None = subject_of(subject.run, "train", None, root).identify().hash
    except (QHybridError, OSError):
        training = None
    described = {
        "version": NUMBERS,
        "weights": weights_hash(subject.folder, subject.which),
        "split": subject.split,
        "data": subject.data_identity(subject.identify()),
        "training": training,
        "engines": {
            name: [layer.engine.describe(), layer.engine.circuit_key(layer.spec)]
            for name, layer in subject.layers.items()
        },
        "options": [asked.layers, asked.margin, asked.samples, asked.seed],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _folder(subject: Subject, asked: _Asked, margin: float) -> Path:
    """Return where results go: one folder for the usual options, others with a hash of theirs."""
    usual = (tuple(subject.layers), margin, None, 0)
    options = (asked.layers, asked.margin, asked.samples, asked.seed)
    parts = [subject.split, *([] if subject.which == "best" else [subject.which])]
    if options != usual:
        parts.append(hashlib.sha256(json.dumps(options).encode()).hexdigest()[:8])
    return subject.folder / FOLDER / "-".join(parts)


def _diagnosed(
    subject: Subject, asked: _Asked, root: Path, device: str | torch.device | None, show: Show
) -> dict[str, Any]:
    """Compute everything but the key."""
    started = time.perf_counter()
    units = _units(subject, asked, device)
    trials = Trials(subject, asked.layers, units, asked.margin, asked.seed, show)
    trials.fit(root, device)
    with trials.opened():
        trials.record()
        if not trials.trained.any():
            raise _nothing_labelled(subject)
        groups = [(name,) for name in asked.layers] + ([asked.layers] if len(asked.layers) > 1 else [])
        targets = [trials.replace(names) for names in groups]
        described = trials.describe()
        shots = trials.shots()
    shares = output_shares(subject, asked.layers, asked.samples, asked.seed, device)
    for name, layer in described.items():
        layer["share_of_output_variance"] = shares[name]
        layer["gradients"] = gradients(subject.folder, name)
    value = measure([trials.trained], trials.metric)
    return {
        "qhybrid": __version__,
        "run": subject.recipe.name,
        "model": str(subject.recipe.model["name"]),
        "which": subject.which,
        "epoch": subject.epoch,
        "weights": weights_hash(subject.folder, subject.which),
        "split": subject.split,
        "data_hash": subject.identify().hash,
        "options": asdict(asked),
        "metric": trials.key,
        "unit": units.unit,
        "units": len(trials.trained),
        "samples": trials.samples,
        "trained": {"value": value.value, "low": plain(value.low), "high": plain(value.high)},
        "targets": targets,
        "layers": described,
        "share_of_output_variance": shares["all"],
        "shots": shots,
        "held_out_angles": subject.split != "train",
        "seconds": round(time.perf_counter() - started, 3),
    }  # fmt: skip


def _nothing_labelled(subject: Subject) -> DataError:
    return DataError(
        f"{subject.folder}: split `{subject.split}` has nothing with a label to diagnose on. Fix: choose "
        "another one (--split); `qhybrid data check` counts what each has."
    )


def _units(subject: Subject, asked: _Asked, device: str | torch.device | None) -> Units:
    if isinstance(subject, SceneSubject) and asked.samples is None:
        return SceneUnits(subject, device)
    inputs = subject.inputs(asked.samples, None if asked.samples is None else asked.seed)
    if inputs is None:
        raise _nothing_labelled(subject)
    return SampledUnits(subject, inputs, device)
