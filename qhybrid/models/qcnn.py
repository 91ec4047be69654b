"""A fully quantum classifier: image cells as angles, the QCNN circuit, one expectation value."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from torch import Tensor, nn

from qhybrid.engines.base import Engine
from qhybrid.models.circuit_part import circuit_layer, named_circuit
from qhybrid.models.classifier_keys import BinaryOptions
from qhybrid.models.classifier_parts import CheckedImages
from qhybrid.models.heads import ExpectationHead


class QCNNOptions(BinaryOptions):
    """Keys of `qcnn`.

    Attributes:
        grid: Rows and columns of cells that the image is averaged to; their number, a power of two, is the
            number of qubits. The paper has 8 qubits and does not say how an image becomes 8 numbers.
        convolution: Two-qubit unitary: `su4` (15 angles) or `n3` (3 angles).
        shared: Whether all pairs of a layer share their angles.
    """

    grid: tuple[int, int] = (4, 2)
    convolution: Literal["su4", "n3"] = "su4"
    shared: bool = True

    @model_validator(mode="after")
    def _grid_fits(self) -> QCNNOptions:
        rows, columns = self.grid
        cells = rows * columns
        if min(self.grid) < 1 or cells < 2 or cells & (cells - 1):
            raise ValueError(f"`grid` must have 2, 4, 8, ... cells, but is {rows} x {columns}")
        if rows > self.image_size[0] or columns > self.image_size[1]:
            raise ValueError(f"`grid` {rows} x {columns} must not be finer than the image, {self.image_size}")
        return self


class QCNN(nn.Module):
    """Average over channels and cells, RY(pi cell), QCNN circuit, two logits from <Z>.

    The only trainable numbers outside the circuit are the bias and, if asked for, the scale of the logits.
    """

    def __init__(self, options: QCNNOptions, engine: Engine | None) -> None:
        """Build the classifier on an engine (the exact one if None)."""
        super().__init__()
        self.check = CheckedImages(options.image_shape)
        self.pool = nn.AdaptiveAvgPool2d(options.grid)
        circuit = named_circuit(
            "qcnn",
            num_qubits=options.grid[0] * options.grid[1],
            convolution=options.convolution,
            shared=options.shared,
        )
        self.head = ExpectationHead(circuit_layer(circuit, engine), options)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) with pixels in [0, 1] to logits (B, 2).

        Raises:
            ConfigError: If the images have another shape than the model was built for.
        """
        cells = self.pool(self.check(images).mean(dim=1, keepdim=True)).flatten(1)
        logits: Tensor = self.head(cells)
        return logits
