"""Quanvolution: a fixed circuit that slides over an image (Henderson et al., arXiv 1904.04767)."""

from __future__ import annotations

from torch import Tensor, nn

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.layers.controls import RawProducts
from qhybrid.layers.quantum_layer import QuantumLayer


class Quanvolution(nn.Module):
    """Feature maps from the read-outs of a fixed circuit, one position a patch.

    Every channel of the image is filtered by itself. All patches of a batch go through the circuit in one
    call. Borders that hold no whole patch are left out.

    Attributes:
        filter: The circuit, or what stands in its place; its weights, if it has any, are not trained.
        outputs: Feature maps of one channel.
    """

    def __init__(
        self,
        spec: CircuitSpec | RawProducts,
        engine: Engine | None = None,
        patch: tuple[int, int] = (2, 2),
        stride: int = 2,
    ) -> None:
        """Build the layer.

        Args:
            spec: The circuit; it has one input a pixel of a patch. Or a classical filter that has.
            engine: What executes it; the noiseless exact engine if absent.
            patch: Height and width of a patch in pixels.
            stride: Pixels from one patch to the next, both ways.

        Raises:
            ConfigError: If patch or stride are below 1, or the circuit does not have one input a pixel.
        """
        super().__init__()
        if min(*patch, stride) < 1:
            raise ConfigError(
                f"Patch and stride must be at least 1 pixel, but are {patch[0]} x {patch[1]} and {stride}."
            )
        inputs, self.outputs = (
            (spec.num_inputs, spec.num_observables)
            if isinstance(spec, CircuitSpec)
            else (spec.inputs, spec.outputs)
        )
        if inputs != patch[0] * patch[1]:
            name = f"Circuit `{spec.name}`" if isinstance(spec, CircuitSpec) else "A filter"
            raise ConfigError(
                f"{name} must have one input a pixel of the {patch[0]} x {patch[1]} patch, but has {inputs}."
            )
        self.patch = (patch[0], patch[1])
        self.stride = stride
        self.filter: nn.Module = QuantumLayer(spec, engine) if isinstance(spec, CircuitSpec) else spec
        self.filter.requires_grad_(False)

    def output_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the features of an image of that shape.

        Raises:
            ConfigError: If the image is smaller than a patch.
        """
        if height < self.patch[0] or width < self.patch[1]:
            raise ConfigError(
                f"Images must hold a patch of {self.patch[0]} x {self.patch[1]} pixels, but are {height} x "
                f"{width}."
            )
        rows = (height - self.patch[0]) // self.stride + 1
        columns = (width - self.patch[1]) // self.stride + 1
        return channels * self.outputs, rows, columns

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to features (B, C * n_obs, H', W'), channel by channel.

        Raises:
            ConfigError: If the images are smaller than a patch.
        """
        batch, channels, height, width = images.shape
        features, rows, columns = self.output_shape(channels, height, width)
        windows = images.unfold(2, self.patch[0], self.stride).unfold(3, self.patch[1], self.stride)
        pixels = self.patch[0] * self.patch[1]
        values: Tensor = self.filter(windows.reshape(batch, channels, rows * columns, pixels))
        return values.transpose(2, 3).reshape(batch, features, rows, columns)
