"""Random changes of training patches: geometry on image and labels alike, colour on any number of bands.

The operations are kornia's, with parameters drawn here from an explicit generator, so that no global random
state is read or changed and the result is a pure function of the batch and the seed.
"""

from __future__ import annotations

import torch
from kornia.enhance import adjust_brightness, adjust_contrast
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import get_rotation_matrix2d, warp_affine
from torch import Tensor

from qhybrid.config import AugmentationConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.statistics import BandStatistics
from qhybrid.errors import DataError
from qhybrid.seeding import torch_generator

_BLUR_SIGMA = 1.0


class PatchAugmentation:
    """Augmentation of a batch on the batch's own device."""

    def __init__(
        self, config: AugmentationConfig, statistics: BandStatistics, part: tuple[int, int] = (0, 1)
    ) -> None:
        """Prepare augmentation.

        Args:
            config: Which changes, and how large.
            statistics: Of the training split; colour changes act on values scaled to [0, 1] by its `low`
                and `high`.
            part: The samples of a call are every n-th of a larger batch, from the k-th on: (k, n). They are
                changed as they would be in it.
        """
        self._config, self._part = config, part
        low, high = torch.tensor(statistics.low).double(), torch.tensor(statistics.high).double()
        mean, std = torch.tensor(statistics.mean).double(), torch.tensor(statistics.std).double()
        extent = torch.where(high > low, high - low, torch.ones_like(low))
        # scaled = standardised * self._slope + self._shift; a constant band has slope 0 and stays as it is.
        self._slope = (std / extent).float().view(1, -1, 1, 1)
        self._shift = ((mean - low) / extent).float().view(1, -1, 1, 1)

    def __call__(self, images: Tensor, masks: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            images: Standardised images, shape (B, C, H, W), 0 in all bands where there are no data.
            masks: Class indices, shape (B, H, W).
            seed: The same seed gives the same result.

        Returns:
            New images and masks of the same shapes; pixels that come from outside are 0 and `IGNORE_INDEX`.

        Raises:
            DataError: If the number of bands is not that of the statistics.
        """
        return self.with_maps(images, masks, None, seed)[:2]

    def with_maps(
        self, images: Tensor, masks: Tensor, maps: Tensor | None, seed: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Change a batch and maps of a coarser grid over the same ground, such as tokens of a frozen ViT.

        Geometry acts on the maps too, colour does not. Images and masks become what they do without maps.

        Args:
            images: As on a call.
            masks: As on a call.
            maps: Shape (B, L, C, h, w); None of a model without them.
            seed: As on a call.

        Raises:
            DataError: As on a call.
        """
        if images.shape[1] != self._slope.shape[1]:
            raise DataError(
                f"The statistics are of {self._slope.shape[1]} band(s), the images of {images.shape[1]}."
            )
        random = _Draws(torch_generator(seed, "augmentation"), *self._part)
        with torch.no_grad():
            images, masks, maps = self._turn(images, masks, maps, random)
            valid = (images != 0).any(dim=1, keepdim=True)
            images, masks, valid, maps = self._warp(images, masks, valid, maps, random)
            images = self._recolour(images, random)
            return images.mul_(valid), masks, maps

    def _turn(
        self, images: Tensor, masks: Tensor, maps: Tensor | None, random: _Draws
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flip and rotate by right angles, exactly; always returns new tensors."""
        batch, square = len(images), images.shape[-1] == images.shape[-2]
        flips = random.integers(4, batch) * int(self._config.flip)
        turns = random.integers(4, batch) * int(self._config.rotate90)
        sources = [images, masks] if maps is None else [images, masks, maps]
        targets = [torch.empty_like(source) for source in sources]
        for sample in range(batch):
            flip, turn = int(flips[sample]), int(turns[sample])
            turn = turn if square else turn // 2 * 2
            axes = [axis for bit, axis in ((1, -1), (2, -2)) if flip & bit]
            for source, target in zip(sources, targets):
                target[sample] = torch.rot90(
                    source[sample].flip(axes) if axes else source[sample], turn, (-2, -1)
                )
        return targets[0], targets[1], None if maps is None else targets[2]

    def _warp(
        self, images: Tensor, masks: Tensor, valid: Tensor, maps: Tensor | None, random: _Draws
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Rotate, zoom and shift: images and maps bilinearly, labels and validity by the nearest pixel."""
        config = self._config
        if config.rotate_degrees == 0 and config.scale == 0 and config.shift == 0:
            return images, masks, valid, maps
        batch, height, width = masks.shape
        angle = config.rotate_degrees * _symmetric(random, batch)
        zoom = 1 + config.scale * _symmetric(random, batch)
        center = torch.tensor([[(width - 1) / 2, (height - 1) / 2]]).expand(batch, 2)
        matrix = get_rotation_matrix2d(center, angle, zoom[:, None].expand(batch, 2))
        if config.shift > 0:
            matrix[:, :, 2] += config.shift * torch.tensor([width, height]) * _symmetric(random, batch, 2)
        matrix = matrix.to(images)
        images = warp_affine(images, matrix, (height, width), mode="bilinear", padding_mode="zeros")
        # Labels travel as label + 1, so that the zeros that fill in from outside are told from class 0.
        together = torch.cat([(masks[:, None] + 1).to(images), valid.to(images)], dim=1)
        together = warp_affine(together, matrix, (height, width), mode="nearest", padding_mode="zeros")
        labels = together[:, 0].round().to(masks.dtype) - 1
        maps = None if maps is None else _warped_maps(maps, matrix, height, width)
        return images, torch.where(labels < 0, IGNORE_INDEX, labels), together[:, 1:] > 0.5, maps

    def _recolour(self, images: Tensor, random: _Draws) -> Tensor:
        """Change colours; values are not clipped, because the network sees unclipped ones in prediction."""
        config, (batch, bands) = self._config, images.shape[:2]
        if config.blur > 0:
            chosen = random.uniform(batch) < config.blur
            if chosen.any():
                chosen = chosen.to(images.device)
                images[chosen] = gaussian_blur2d(images[chosen], (3, 3), (_BLUR_SIGMA, _BLUR_SIGMA))
        if max(config.brightness, config.contrast, config.band_gain, config.noise) == 0:
            return images
        slope, shift = self._slope.to(images), self._shift.to(images)
        scaled = images * slope + shift
        if config.contrast > 0:
            factor = 1 + config.contrast * _symmetric(random, batch)
            scaled = adjust_contrast(scaled, factor.to(images), clip_output=False)
        if config.band_gain > 0:
            scaled *= (1 + config.band_gain * _symmetric(random, batch, bands, 1, 1)).to(images)
        if config.brightness > 0:
            amount = config.brightness * _symmetric(random, batch)
            scaled = adjust_brightness(scaled, amount.to(images), clip_output=False)
        if config.noise > 0:
            scaled += (config.noise * random.normal(*images.shape)).to(images)
        inverse = torch.where(slope > 0, 1 / slope, torch.zeros_like(slope))
        return (scaled - shift) * inverse


def _warped_maps(maps: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """Warp maps (B, L, C, h, w) as images of (height, width) pixels are warped; outside is as their edge.

    A pixel (x, y) is place ((x + 1/2) w / width - 1/2, (y + 1/2) h / height - 1/2) of a map.

    Args:
        maps: The maps.
        matrix: From pixels (x, y, 1) of the images to pixels of the warped images, shape (B, 2, 3).
        height: Rows of the images.
        width: Columns of the images.
    """
    rows, columns = maps.shape[-2:]
    scale = matrix.new_tensor([columns / width, rows / height])
    offset = (scale - 1) / 2
    linear = matrix[:, :, :2] * scale[:, None] / scale
    # place -> pixel -> warped pixel -> place
    shift = matrix[:, :, 2] * scale + offset - (linear @ offset)
    own = torch.cat([linear, shift[:, :, None]], dim=2)
    flat = maps.flatten(1, 2).to(matrix)
    warped = warp_affine(flat, own, (rows, columns), mode="bilinear", padding_mode="border")
    result: Tensor = warped.reshape(maps.shape).to(maps.dtype)
    return result


class _Draws:
    """Numbers for the samples of a batch, which may be every `count`-th of a larger one, from `first` on."""

    def __init__(self, generator: torch.Generator, first: int, count: int) -> None:
        self._generator, self._first, self._count = generator, first, count

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw integers from 0 to `high` - 1."""
        return self._own(torch.randint(high, self._whole(shape), generator=self._generator))

    def uniform(self, *shape: int) -> Tensor:
        """Draw from [0, 1) uniformly."""
        return self._own(torch.rand(self._whole(shape), generator=self._generator))

    def normal(self, *shape: int) -> Tensor:
        """Draw from the standard normal distribution."""
        return self._own(torch.randn(self._whole(shape), generator=self._generator))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self._count, *shape[1:])

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn[self._first :: self._count]


def _symmetric(random: _Draws, *shape: int) -> Tensor:
    """Draw from [-1, 1) uniformly."""
    return 2 * random.uniform(*shape) - 1
