"""A frozen ViT: images in, token maps of chosen blocks out."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qhybrid.errors import ConfigError
from qhybrid.guidance.keys import KEY, RANDOM, GuidanceOptions, found_hash, seeded_model
from qhybrid.guidance.pretrained import FROZEN, find_weights, library, load_pretrained
from qhybrid.workspace import data_below, data_root


class _OtherSizeError(ConfigError):
    """A ViT does not take images of this size."""


class FrozenViT:
    """A pretrained ViT that is never trained, loaded when it is needed first.

    It is no part of the model's weights: copies of a model share it, and a run keeps its hash alone.

    Attributes:
        options: The section `guidance`, complete.
        root: Data root that its folder is looked up below; that of the environment if absent.
    """

    def __init__(self, options: GuidanceOptions) -> None:
        self.options = options
        self.root: Path | None = None
        self._network: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenViT:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}

    @property
    def network(self) -> Any:
        """The model of `transformers`, in evaluation mode.

        Raises:
            ConfigError: If its files are missing, have changed, or are of another model.
        """
        if self._network is None:
            with data_below(self.root or data_root()):
                self._network = self._load()
        return self._network

    def unload(self) -> None:
        """Forget the network, and the memory of its device with it; it is loaded again when it is needed."""
        self._network = None

    @property
    def describing(self) -> dict[str, Any]:
        """All that decides token maps of an image of given values, for keys of caches."""
        options = self.options
        return {
            "weights": options.sha256,
            "config": options.config,
            "layers": list(options.layers or ()),
            "scale": options.scale,
            "transformers": str(library(FROZEN).__version__),
        }

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of an image's tokens: sides go to the nearest multiple of a patch."""
        step = self.options.patch / self.options.scale
        return max(1, round(height / step)), max(1, round(width / step))

    def maps(self, image: Tensor) -> Tensor:
        """Return the token maps of images.

        Blocks in the middle are normalised by the ViT's last layer norm, as DINOv2 does it for intermediate
        layers.

        Args:
            image: What the ViT takes (normalised), shape (B, image_channels, H, W).

        Returns:
            Half precision, shape (B, maps, token_channels, *grid(H, W)).

        Raises:
            ConfigError: If the ViT cannot be loaded, takes no such images, or has not one token a patch.
        """
        rows, columns = self.grid(*image.shape[-2:])
        size = rows * self.options.patch, columns * self.options.patch
        image = image.detach().float()
        if size != tuple(image.shape[-2:]):
            image = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
        network = self.network.to(image.device)
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            states = self._states(network, image)
            found = torch.stack(
                [self._map(states[layer + 1], rows, columns) for layer in self._layers], dim=1
            )
        half = found.half()
        if not bool(torch.isfinite(half).all()):
            raise ConfigError(
                f"Token maps of `{self.options.backbone}` must be finite in half precision, but are not. "
                "Fix: other `guidance.layers`, or other weights."
            )
        return half

    def check(self) -> None:
        """Run an image through the ViT, a small one if it can, so that what does not fit shows early.

        Raises:
            ConfigError: As `maps`.
        """
        side, channels = 2 * self.options.patch / self.options.scale, self.options.image_channels
        try:
            self.maps(torch.zeros(1, channels, round(side), round(1.5 * side)))
        except _OtherSizeError:  # some take images of one size alone, which may be that of the tiles
            self.maps(torch.zeros(1, channels, self.options.tile, self.options.tile))

    @property
    def _layers(self) -> tuple[int, ...]:
        return self.options.layers or ()

    def _load(self) -> Any:
        options = self.options
        found = found_hash(options)
        if found != options.sha256:
            raise ConfigError(
                f"The weights of the frozen ViT `{options.backbone}` must be those that the model was "
                f"trained with (hash {options.sha256}), but have hash {found}. Fix: give the files that "
                "were used."
            )
        if options.backbone == RANDOM:
            model = seeded_model(options.config or {}, options.seed)
        else:
            model = self._pretrained(find_weights(options.backbone, KEY, FROZEN))
        return model.eval().requires_grad_(False)

    def _pretrained(self, folder: Path) -> Any:
        try:
            model, missing = load_pretrained(folder, self.options.config or {}, FROZEN)
        except Exception as error:  # each kind of model raises its own
            raise ConfigError(
                f"Key `{KEY}` must name a ViT, but {folder} cannot be loaded as one: {error} Fix: save it "
                "with `save_pretrained`."
            ) from error
        lost = sorted(name for name in missing if "pooler" not in name and "mask_token" not in name)
        if lost:
            raise ConfigError(
                f"{folder} must hold all weights of its config.json, but lacks {len(lost)} tensor(s), first "
                f"`{lost[0]}`. Fix: give weights that belong to their config.json."
            )
        return model

    def _states(self, network: Any, image: Tensor) -> Any:
        """Return all hidden states: the embedding, then the output of each block."""
        flags: dict[str, Any] = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            flags["interpolate_pos_encoding"] = True
        try:
            states = network(pixel_values=image, **flags).hidden_states
        except Exception as error:  # each kind of model raises its own
            raise _OtherSizeError(
                f"The frozen ViT `{self.options.backbone}` must take images of {image.shape[-2]} x "
                f"{image.shape[-1]} pixels, but does not: {error} Fix: set `guidance.tile` and "
                "`guidance.scale` so that tiles have the `image_size` of its configuration "
                f"({(self.options.config or {}).get('image_size')}), or take a ViT that "
                "interpolates positions."
            ) from error
        depth = int((self.options.config or {})["num_hidden_layers"])
        if states is None or len(states) != depth + 1:
            raise ConfigError(
                f"The frozen ViT `{self.options.backbone}` must give the output of each of its {depth} "
                f"blocks, but gives {0 if states is None else len(states)} states. Fix: take a plain ViT."
            )
        return states

    def _map(self, state: Tensor, rows: int, columns: int) -> Tensor:
        """Return the patch tokens of a hidden state as a map (B, C, rows, columns)."""
        options = self.options
        others = 1 + int((options.config or {}).get("num_register_tokens") or 0)
        tokens = state.shape[1] if state.ndim == 3 else -1
        if tokens - rows * columns not in (0, others) or state.shape[-1] != options.token_channels:
            raise ConfigError(
                f"Key `{KEY}` must name a ViT with one token a patch, {rows * columns} of "
                f"{options.token_channels} channels here, with none or {others} other(s) in front (class and "
                f"register tokens of its configuration), but `{options.backbone}` has hidden states of shape "
                f"{tuple(state.shape[1:])}. Fix: take a plain ViT."
            )
        norm = getattr(self.network, "layernorm", None) or getattr(self.network, "norm", None)
        if isinstance(norm, nn.LayerNorm) and tuple(norm.normalized_shape) == (options.token_channels,):
            state = norm(state)
        patches = state[:, tokens - rows * columns :]
        result: Tensor = patches.transpose(1, 2).reshape(len(state), -1, rows, columns)
        return result
