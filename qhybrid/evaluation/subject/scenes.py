"""A run on scenes: every scene of a split through the windows and the blending of `predict`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.identity import DataIdentity, scenes_identity
from qhybrid.data.patches import GridPatches
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene
from qhybrid.evaluation.baselines import score_baselines
from qhybrid.evaluation.measuring import Measured, Tally
from qhybrid.evaluation.other_data import OtherData, other_scenes
from qhybrid.evaluation.report_files import write_report
from qhybrid.evaluation.sampling_error import SampleUnits
from qhybrid.evaluation.scene_pictures import Part, read_sample
from qhybrid.evaluation.scene_units import window_units
from qhybrid.evaluation.scoring import (
    drawn_order,
    open_labelled,
    score_scenes,
    spread_over,
    true_map,
    varied_parts,
)
from qhybrid.evaluation.subject.predictions import KeptPredictions, PredictionWriter
from qhybrid.evaluation.subject.results import Evaluation, ModelInputs, Options, ShownSample
from qhybrid.evaluation.subject.subject import Subject, input_of
from qhybrid.guidance import find_vit_below, guidance_in
from qhybrid.inference.scene_model import scene_tokens
from qhybrid.metrics import SCENES, Sample, Totals
from qhybrid.training.metrics import ConfusionMatrix, SegmentationMetrics
from qhybrid.training.pictures import stretch
from qhybrid.training.run_folder import LoadedRun

SHOWN = 4
_NOT_READING = {"root", "augmentation", "patches_per_epoch", "workers", "cache_mb"}
"""Keys of `data` that decide nothing of how a scene is read."""
_BLOCKS, _BLOCK_BYTES = 64, 2**14
"""What earlier versions read of an image to tell it from others."""


class SceneSubject(Subject):
    """A run on scenes."""

    task = SCENES
    run: LoadedRun

    def __init__(
        self,
        run: LoadedRun,
        split: str,
        samples: int | None,
        data_root: Path,
        other: OtherData | None = None,
    ) -> None:
        self._data = run.recipe.data, data_root
        find_vit_below(run.model, data_root)
        if other is None:
            scenes = open_dataset(*self._data).scenes(split)
        else:
            run, scenes = other_scenes(run, other, split)
        self._take_run(run, split)
        self._scenes = scenes[:samples]
        self.class_names = run.classes.names
        self.colors = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in run.classes.palette())

    def evaluate(self, options: Options | None = None) -> Evaluation:
        """Evaluate all scenes; see `Subject.evaluate`."""
        options = options or Options()
        tally, writer = Tally.of(self.task), PredictionWriter()

        def each(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
            if options.keep:
                writer.add_map(labels)
            tally.add(Sample(labels, truth, self.class_names))

        parts = self._parts
        confusion, pictures, overview, units = score_scenes(
            self.run,
            self._scenes,
            settings=options.settings,
            device=options.device,
            parts=parts,
            # Cells of a sweep, which keep all predictions, have no picture of a whole scene.
            overview=parts[0].scene if parts and not options.keep else None,
            progress=options.progress,
            each=each if options.keep or tally.counting else None,
        )
        counts = confusion.compute()
        if not counts.pixels:
            warnings.warn(
                f"{self.folder}: no pixel of the scenes has both data and a label (split `{self.split}`): "
                "nothing is judged, and all metrics are unknown. Fix: see `qhybrid data check`.",
                stacklevel=2,
            )
        measured = tally.measure(Totals(counts))
        return Evaluation(
            self.task,
            measured,
            counts,
            tuple(picture.prediction for picture in pictures),
            writer.content() if options.keep else b"",
            pictures=tuple(pictures),
            places=tuple(picture.place for picture in pictures),
            overview=overview,
            intervals=units.tally.intervals(measured),
        )

    def measure_kept(self, file: Path | None, counts: SegmentationMetrics, tally: Tally) -> Measured:
        """Compute metrics of kept predictions, scene by scene; see `Subject.measure_kept`."""
        if file is not None and tally.counting:
            kept, confusion = KeptPredictions(file), ConfusionMatrix(len(self.class_names), self.class_names)
            for scene, labels in zip(self._scenes, kept.maps(len(self._scenes)), strict=True):
                reader = open_labelled(self.run, scene)
                truth = true_map(reader)
                reader.close()
                kept.check_shape(labels, truth.shape)
                confusion.update(torch.from_numpy(labels), torch.from_numpy(truth))
                tally.add(Sample(labels, truth, self.class_names))
            kept.check(confusion.compute().matrix, counts.matrix)
        return tally.measure(Totals(counts))

    def samples(self) -> list[ShownSample]:
        """Return parts of scenes that show many classes; see `Subject.samples`."""
        found = []
        for part in self._parts:
            reader = open_labelled(self.run, self._scenes[part.scene])
            nothing = np.empty(0, dtype=np.uint8)
            found.append(read_sample(reader, part.window, nothing))
            reader.close()
        pictures = stretch([sample.image for sample in found])
        return [
            ShownSample(
                sample.title,
                np.asarray((colors * 255).round(), dtype=np.uint8),
                sample.truth,
                sample.place,
            )
            for sample, colors in zip(found, pictures, strict=True)
        ]

    @cached_property
    def _parts(self) -> list[Part]:
        """What pictures show, the same for every evaluation."""
        return varied_parts(self.run, self._scenes, SHOWN)

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The scenes of the split."""
        return tuple(self._scenes)

    def sampling_units(self, names: Sequence[str]) -> SampleUnits:
        """Return places of windows where there are enough, else each window; see `Subject.sampling_units`."""
        place = {scene.id: index for index, scene in enumerate(self._scenes)}
        return window_units(self._scenes, [place[name.rsplit(":", 2)[0]] for name in names])

    def inputs(self, limit: int | None, seed: int | None = None) -> ModelInputs | None:
        """Return evenly spread or random windows; see `Subject.inputs`."""
        run = self.run
        maps = scene_tokens(run, keep=True)
        patches = GridPatches(
            self._scenes, run.classes, run.statistics, run.recipe.data, run.patch_size, maps
        )
        count = len(patches)
        number = count if limit is None else min(limit, count)
        wanted = spread_over(count, number) if seed is None and count else []
        order = drawn_order(count, seed) if seed is not None else [*wanted, *_others(count, wanted)]
        chosen: dict[int, Any] = {}
        for index in order:
            if len(chosen) == number:
                break
            patch = patches[index]
            if bool((patch["mask"] != IGNORE_INDEX).any()):
                chosen[index] = patch
        order = sorted(chosen)
        if not order:
            return None
        places = (patches.windows[index] for index in order)
        return ModelInputs(
            torch.stack([chosen[index]["image"] for index in order]),
            torch.stack([chosen[index]["mask"] for index in order]),
            tuple(f"{self._scenes[number].id}:{at.row}:{at.col}" for number, at in places),
            None if maps is None else torch.stack([chosen[index]["tokens"] for index in order]),
        )

    def write_report(
        self, target: Path, facts: Mapping[str, Any], found: Evaluation, baselines: Mapping[str, Any]
    ) -> None:
        """Write metrics.json, metrics.csv, confusion.png, samples.png and map.png."""
        write_report(
            target,
            self.recipe.name,
            self.run.classes,
            facts,
            found.counts,
            baselines,
            found.pictures,
            found.overview,
        )

    def facts(self, options: Options) -> dict[str, Any]:
        """Return split and scenes, how scenes are cut and blended, and what the frozen ViT is called."""
        settings = options.settings or self.recipe.prediction
        guidance = guidance_in(self.model)
        return {
            **({} if guidance is None else {"frozen_vit": guidance.options.label}),
            "split": self.split,
            "scenes": [scene.id for scene in self._scenes],
            "window_size": self.run.patch_size,
            "prediction": settings.model_dump(mode="json"),
        }

    def baselines(self) -> dict[str, SegmentationMetrics]:
        """Return the metrics of the majority class and of colour alone; see `Subject.baselines`."""
        return score_baselines(self.run, open_dataset(*self._data).scenes("train"), self._scenes)

    def identify(self) -> DataIdentity:
        """Return the identity of the scenes' files; see `Subject.identify`."""
        return scenes_identity(self._scenes)

    def data_identity(self, identity: DataIdentity) -> dict[str, Any]:
        """Return names and contents of scenes, and how they are read, cut and blended."""
        run = self.run
        section = self.recipe.data.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_READING)
        reading = {
            "data": section,
            "classes": run.meta.classes,
            "statistics": run.meta.statistics,
            "bands": list(run.meta.bands),
            "patch_size": run.meta.patch_size,
        }
        if (contract := input_of(run)) is not None:
            reading["input"] = contract
        return {"scenes": identity.parts, "reading": reading, "prediction": self._prediction()}

    def _prediction(self) -> dict[str, Any]:
        """Return what decides predictions; keys that came later count once they are used."""
        section = self.recipe.prediction
        return {
            **section.model_dump(mode="json", exclude={"batch_size"}, exclude_defaults=True),
            **section.model_dump(mode="json", include={"overlap", "orientations"}),
        }

    def earlier_identity(self, identity: DataIdentity) -> dict[str, Any] | None:
        """Return names of scenes, masks' bytes and samples of images; see `Subject.earlier_identity`."""
        masks = {scene.mask for scene in self._scenes if scene.mask is not None}
        images = {scene.image for scene in self._scenes}
        try:
            digests = {mask: hashlib.sha256(mask.read_bytes()).hexdigest() for mask in masks}
            sampled = {image: sampled_digest(image) for image in images}
        except OSError:  # no local files: earlier versions could not read them either
            return None
        parts = [
            [
                scene.id,
                sampled[scene.image],
                list(scene.window) if scene.window else None,
                None if scene.mask is None else digests[scene.mask],
            ]
            for scene in self._scenes
        ]
        return {"scenes": parts, "prediction": self._prediction()}


def _others(count: int, wanted: list[int]) -> list[int]:
    """Return the windows that are not among the wanted ones."""
    taken = set(wanted)
    return [index for index in range(count) if index not in taken]


def sampled_digest(file: Path) -> str:
    """Return a hash of a file's size and of evenly spread blocks of it, both ends among them."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - _BLOCK_BYTES)
    with file.open("rb") as handle:
        for number in range(_BLOCKS):
            handle.seek(last * number // (_BLOCKS - 1))
            digest.update(handle.read(_BLOCK_BYTES))
    return digest.hexdigest()
