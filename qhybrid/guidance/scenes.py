"""Token maps of windows of scenes: from memory, from disk, or from the ViT, in this order."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from qhybrid.data.contract import InputContract
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import BandStatistics
from qhybrid.guidance.cache import TokenCache, token_key
from qhybrid.guidance.module import Guidance, bytes_seen, guidance_in, seen
from qhybrid.guidance.tiles import TileGrid, sample_window

MEMORY_MB = 256
"""Token maps kept in memory; rows of tiles that a row of windows touches are kept whatever their size."""


class SceneTokens:
    """Gives the token maps of any window of any scene.

    A scene is cut into tiles (`guidance.tile`), of which each passes the frozen ViT once; windows are sampled
    from the maps of tiles. So training, evaluation and prediction see the same maps of the same ground.
    """

    def __init__(
        self,
        guidance: Guidance,
        statistics: BandStatistics,
        contract: InputContract,
        *,
        keep: bool = True,
        cache: TokenCache | None = None,
        memory_mb: float = MEMORY_MB,
        device: str | torch.device | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            guidance: Of the model; what its ViT sees must be settled (`Guidance.see`).
            statistics: What standardises scenes.
            contract: What scenes are read for.
            keep: Keep new token maps on disk, if the section `guidance` has `cache`.
            cache: The files; those in the cache folder if absent.
            memory_mb: Token maps kept in memory, in MiB.
            device: Where the ViT runs; where the guidance is if absent.
        """
        options = guidance.options
        self.options = options
        self._vit = guidance.vit
        self._seen = tuple(one.detach().cpu() for one in (guidance.bands, guidance.gain, guidance.shift))
        self._of_bytes = bytes_seen(guidance, statistics)
        self._device = torch.device(device or guidance.gain.device)
        self._statistics, self._contract = statistics, contract
        self._cache = (cache or TokenCache()) if options.cache else None
        self._keep = keep
        self._room = int(memory_mb * 2**20)
        self._memory: OrderedDict[str, Tensor] = OrderedDict()
        self._keys: dict[Any, str] = {}
        self._shapes: dict[Any, tuple[int, int]] = {}
        self._reader: SceneReader | None = None

    @classmethod
    def of(
        cls, model: nn.Module, statistics: BandStatistics, contract: InputContract, *, keep: bool = True
    ) -> SceneTokens | None:
        """Return what gives token maps to a trained model; None to one without a frozen ViT.

        Args:
            model: The model.
            statistics: What standardises scenes.
            contract: What scenes are read for.
            keep: Keep new token maps on disk.
        """
        guidance = guidance_in(model)
        return None if guidance is None else cls(guidance, statistics, contract, keep=keep)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memory": OrderedDict(), "_reader": None}

    def __call__(self, scene: Scene, window: Window) -> Tensor:
        """Return the token maps of a window, half precision (L, C, h, w).

        Raises:
            ConfigError: If the ViT cannot be used.
            DataError: If the scene cannot be read.
        """
        grid = self._grid(scene)
        # A window may touch a part of a tile above and below, and near the end two that overlap.
        rows = math.ceil(window.height / grid.side) + 2

        def tile_maps(row: int, column: int) -> Tensor:
            return self._tile(scene, grid, row, column, rows)

        return sample_window(tile_maps, grid, window, self.options.patch / self.options.scale)

    @property
    def kept(self) -> bool:
        """Whether new token maps are kept on disk."""
        return self._keep and self._cache is not None

    def prepare(self, scenes: Sequence[Scene], progress: Callable[[int, int], None] | None = None) -> None:
        """Let every tile of scenes pass the ViT that is not on disk yet.

        Args:
            scenes: The scenes.
            progress: Called with (tiles done, tiles in all).
        """
        grids = [(scene, self._grid(scene)) for scene in scenes]
        tiles = [(scene, grid, at) for scene, grid in grids for at in grid.places()]
        for done, (scene, grid, (row, column)) in enumerate(tiles, start=1):
            self._tile(scene, grid, row, column, rows=1)
            if progress is not None:
                progress(done, len(tiles))
        self.close()
        if self._device.type != "cpu":  # training needs the memory, and forked workers cannot use its device
            self._vit.unload()

    def close(self) -> None:
        """Close the file that was read last; reading again opens it again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _grid(self, scene: Scene) -> TileGrid:
        identity = (scene.image, scene.window)
        if identity not in self._shapes:
            self._shapes[identity] = self._open(scene).shape
        return TileGrid(self._shapes[identity], self.options.tile)

    def _open(self, scene: Scene) -> SceneReader:
        if self._reader is None:
            self._reader = SceneReader(scene, None, self._contract)
        self._reader.move_to(scene)
        return self._reader

    def _tile(self, scene: Scene, grid: TileGrid, row: int, column: int, rows: int) -> Tensor:
        """Return the token maps of a tile; those of so many rows of tiles are kept in memory at least."""
        identity = (scene.image, scene.window, row, column)
        key = self._keys.get(identity)
        if key is not None and key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        at = grid.window(row, column)
        tokens = self._vit.grid(at.height, at.width)
        shape = (self.options.maps, self.options.token_channels, *tokens)
        found = None
        if key is not None and self._cache is not None:
            found = self._cache.load(key, shape)
        if found is None:
            image = self._image(scene, at)
            key = token_key(image, self._vit.describing, tokens)
            found = self._found(key, image, shape)
            self._keys[identity] = key
        self._remember(str(key), found, rows * len(grid.starts(1)))
        return found

    def _image(self, scene: Scene, at: Window) -> Tensor:
        """Return what the ViT gets of a tile, shape (C, h, w)."""
        raw, valid = self._open(scene).read(at)
        image = seen(torch.from_numpy(self._statistics.standardise(raw, valid)), *self._seen)
        if self._of_bytes is None or raw.dtype != np.uint8:
            return image
        # Straight from the bytes: another fold's statistics would round otherwise, and its key would be new.
        gain, shift = self._of_bytes
        exact = torch.from_numpy(raw).index_select(0, self._seen[0]) * gain + shift
        return torch.where(torch.from_numpy(valid), exact, image)

    def _found(self, key: str, image: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return token maps from disk, else from the ViT."""
        found = None if self._cache is None else self._cache.load(key, shape)
        if found is None:
            device = torch.device("cpu") if get_worker_info() is not None else self._device
            found = self._vit.maps(image[None].to(device))[0].cpu()
            if self._cache is not None and self._keep:
                self._cache.save(key, found)
        return found

    def _remember(self, key: str, maps: Tensor, tiles: int) -> None:
        """Keep maps in memory, and forget those used longest ago where there is no room."""
        self._memory[key] = maps
        self._memory.move_to_end(key)
        size = maps.numel() * maps.element_size()
        while len(self._memory) > max(tiles, self._room // size):
            self._memory.popitem(last=False)
