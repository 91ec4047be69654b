"""Backbones of `transformers` as makers of feature maps: loading, number of bands, hidden states."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qhybrid.errors import ConfigError
from qhybrid.guidance.pretrained import find_weights, library, load_pretrained, random_model
from qhybrid.models.encoder_keys import EncoderOptions


def inflate_bands(model: Any, bands: int, rgb: Sequence[int] | None = None) -> Any:
    """Return a backbone for images of another number of bands.

    The new filters sum to what the old ones sum to, so an image whose bands are all equal gives the same
    result as before. Bands that are red, green and blue have their filters in proportion; every other one
    has the mean filter.

    Args:
        model: The backbone; its first convolution mixes the bands.
        bands: Bands of the images.
        rgb: Which of them, from 1, are red, green and blue.
    """
    known = bands_of(model)
    if bands == known and rgb is None:
        return model
    if rgb is not None and known != 3:
        raise ConfigError(f"Key `encoder.rgb` is for an encoder of three bands, but this one has {known}.")
    name, first = first_convolution(model)
    old = first.weight.detach()
    new = old.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1)
    for place, band in enumerate(rgb or ()):
        new[:, band - 1] = old[:, place]
    new = new * (known / bands)
    state = {**model.state_dict(), f"{name}.weight": new}
    config = type(model.config).from_dict({**model.config.to_dict(), "num_channels": bands})
    wider = library().AutoModel.from_config(config)
    wider.load_state_dict(state)
    return wider


def load_backbone(options: EncoderOptions) -> tuple[Any, set[str]]:
    """Return the backbone as it was trained, in 32 bit, and the names of tensors that its files lack."""
    content = dict(options.config or {})
    with explained("be built", options):
        if options.weights is None:
            return random_model(content), set()
        return load_pretrained(find_weights(options.weights), content)


@contextlib.contextmanager
def explained(what: str, options: EncoderOptions) -> Iterator[None]:
    """Turn whatever a foreign model raises into an error that names the key."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        kind = (options.config or {}).get("model_type")
        raise ConfigError(
            f"Section `encoder` must name a backbone for images, but `{options.weights or kind}` (of kind "
            f"{kind}) cannot {what}: {error}. Fix: a ViT, DINOv2, ResNet, ConvNeXt or Swin, for example."
        ) from error


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return name and layer of the convolution that the bands enter.

    Raises:
        ConfigError: If there is none.
    """
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d):
            return name, part
    raise ConfigError("Section `encoder` must name a backbone that begins with a convolution, but has none.")


def bands_of(model: nn.Module) -> int:
    """Return how many bands a backbone takes."""
    return int(first_convolution(model)[1].in_channels)


def patch_size(model: Any) -> int:
    """Return the side of a patch token in pixels; 1 for backbones that do not say."""
    size = getattr(model.config, "patch_size", 1)
    return int(size) if isinstance(size, int) else int(max(size))


def _call(model: Any, image: Tensor) -> Any:
    """Run a backbone on images of any size, with all hidden states."""
    options: dict[str, Any] = {"output_hidden_states": True}
    if "interpolate_pos_encoding" in inspect.signature(model.forward).parameters:
        options["interpolate_pos_encoding"] = True
    return model(pixel_values=image, **options)


def last_is_output(model: Any, image: Tensor) -> bool:
    """Return whether the last hidden state is the output, which is normalised already."""
    found = _call(model, image)
    last, output = found.hidden_states[-1], found.last_hidden_state
    return bool(last.shape == output.shape and torch.equal(last, output))


def feature_maps(model: Any, image: Tensor, patch: int, tied: bool) -> list[Tensor]:
    """Return all hidden states of a backbone as feature maps (B, C, h, w).

    Patch tokens are normalised by the model's last layer norm, as DINOv2 does it for its intermediate layers.
    """
    found = _call(model, image)
    states = getattr(found, "reshaped_hidden_states", None) or found.hidden_states
    rows, columns = image.shape[-2] // patch, image.shape[-1] // patch
    norm = getattr(model, "layernorm", None) or getattr(model, "norm", None)
    maps = []
    for number, state in enumerate(states):
        if state.ndim == 3:
            if not 0 <= state.shape[1] - rows * columns < 64:
                raise ConfigError(
                    f"Section `encoder` must name a backbone with one token a patch, {rows * columns} for "
                    f"{image.shape[-2]} x {image.shape[-1]} pixels, but it has {state.shape[1]}."
                )
            if isinstance(norm, nn.LayerNorm) and not (tied and number == len(states) - 1):
                state = norm(state)
            # Class and register tokens stand in front.
            state = state[:, state.shape[1] - rows * columns :]
            state = state.transpose(1, 2).unflatten(2, (rows, columns))
        maps.append(state)
    return maps


def default_layers(strides: Sequence[int], levels: int, tokens: bool) -> tuple[int, ...]:
    """Return the hidden state of each scale, that at full resolution first."""
    if tokens:
        last = len(strides) - 1
        return tuple(round((level + 1) * last / levels) for level in range(levels))
    distance = [[abs(math.log2(stride) - level) for stride in strides] for level in range(levels)]
    # Of equally near ones the deepest.
    return tuple(max(i for i, far in enumerate(row) if far == min(row)) for row in distance)
