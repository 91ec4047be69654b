"""A run on scenes: every scene of a split through the windows and the blending of `evaluate`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.data.scene_datasets import open_dataset
from qhybrid.evaluation.scoring import middle_window, open_labelled, score_scenes, spread_over
from qhybrid.evaluation.subject.subject import Outcome, ShownSample, Subject
from qhybrid.training.pictures import stretch
from qhybrid.training.run_folder import load_run

SHOWN = 4
_BLOCKS, _BLOCK_BYTES = 64, 2**14
"""What is read of an image to tell it from others: images may be larger than memory."""


class SceneSubject(Subject):
    """A run on scenes."""

    def __init__(self, folder: Path, which: str, split: str, samples: int | None, data_root: Path) -> None:
        self._run = load_run(folder, "best" if which == "best" else "last")
        self.folder, self.recipe, self.model = folder, self._run.recipe, self._run.model
        self.epoch, self.which = self._run.meta.epoch, self._run.which
        self.class_names = self._run.classes.names
        self.colors = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in self._run.classes.palette())
        self._scenes = open_dataset(self._run.recipe.data, data_root).scenes(split)[:samples]
        self._keep_own_engines()

    def evaluate(self) -> Outcome:
        """Evaluate all scenes; see `Subject.evaluate`."""
        confusion, shown = score_scenes(self._run, self._scenes, samples=SHOWN)
        found = confusion.compute()
        per_class = {
            f"iou {name}": float(iou)
            for name, iou in zip(self.class_names, found.iou, strict=True)
            if not np.isnan(iou)
        }
        metrics = {"miou": found.miou, "accuracy": found.overall_accuracy, **per_class}
        return Outcome(metrics, found.matrix, found.pixels, tuple(sample.prediction for sample in shown))

    def samples(self) -> list[ShownSample]:
        """Return the middles of evenly spread scenes; see `Subject.samples`."""
        titles, images, truths = [], [], []
        for index in spread_over(len(self._scenes), SHOWN):
            reader = open_labelled(self._run, self._scenes[index])
            window = middle_window(reader.shape)
            raw, valid = reader.read(window)
            truth = reader.read_labels(window)
            truth[~valid] = 255
            reader.close()
            titles.append(self._scenes[index].id)
            images.append(np.where(valid, raw.astype(np.float64), np.nan))
            truths.append(truth)
        pictures = [np.asarray((colors * 255).round(), dtype=np.uint8) for colors in stretch(images)]
        return [ShownSample(*parts) for parts in zip(titles, pictures, truths, strict=True)]

    @property
    def data_identity(self) -> dict[str, Any]:
        """Names of the scenes, contents of images and masks, and how scenes are cut and blended."""
        masks = {scene.mask for scene in self._scenes if scene.mask is not None}
        digests = {mask: hashlib.sha256(mask.read_bytes()).hexdigest() for mask in masks}
        images = {image: sampled_digest(image) for image in {scene.image for scene in self._scenes}}
        return {
            "scenes": [
                [
                    scene.id,
                    images[scene.image],
                    list(scene.window) if scene.window else None,
                    None if scene.mask is None else digests[scene.mask],
                ]
                for scene in self._scenes
            ],
            "prediction": self.recipe.prediction.model_dump(mode="json", exclude={"batch_size"}),
        }


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
