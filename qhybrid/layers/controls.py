"""What can stand in a circuit's place: nothing, its inputs, and small classical layers.

Each maps inputs (..., n_in) to outputs (..., n_out), as the circuit does, and says in words what it is.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor, nn

HASH, SIGN_HASH = 2_654_435_761, 2_246_822_519
"""Odd multipliers (Knuth's, and one of xxHash) that spread the places of a matrix over weights and signs."""


class ZeroFilter(nn.Module):
    """The part that adds nothing.

    Attributes:
        outputs: Numbers that go out; as many as come in if None.
    """

    def __init__(self, outputs: int | None = None) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, values: Tensor) -> Tensor:
        """Return zeros of the shape of `values`, or of the last dimension that was asked for."""
        if self.outputs is None:
            return torch.zeros_like(values)
        return values.new_zeros(*values.shape[:-1], self.outputs)

    @property
    def words(self) -> str:
        """What it is."""
        return "zeros"


class NeighbourMeans(nn.Module):
    """Hands its inputs on; where there are more or fewer outputs, output k is the mean of its neighbours.

    With n inputs and m outputs these are the inputs floor(k n / m) to ceil((k + 1) n / m) - 1, as in adaptive
    average pooling. Nothing is trained.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs

    def forward(self, values: Tensor) -> Tensor:
        """Map values (..., inputs) to (..., outputs)."""
        if self.inputs == self.outputs:
            return values
        rows = values.reshape(-1, 1, self.inputs)
        means: Tensor = nn.functional.adaptive_avg_pool1d(rows, self.outputs)
        return means.reshape(*values.shape[:-1], self.outputs)

    @property
    def words(self) -> str:
        """What it is."""
        if self.inputs == self.outputs:
            return f"its {self.inputs} inputs"
        return f"means of neighbouring inputs, {self.inputs} to {self.outputs}"


class SmallMLP(nn.Sequential):
    """Dense layer, tanh, dense layer, tanh: outputs lie in [-1, 1] as expectation values do.

    The hidden layer has as many units as bring the number of weights nearest to that of the circuit, but one
    at least. A circuit without weights has a stand-in with as many hidden units as inputs.
    """

    def __init__(self, inputs: int, outputs: int, weights: int) -> None:
        hidden = max(1, round((weights - outputs) / (inputs + outputs + 1))) if weights else inputs
        super().__init__(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs), nn.Tanh())
        self.sizes = (inputs, hidden, outputs)

    @property
    def words(self) -> str:
        """What it is."""
        return f"MLP {'-'.join(map(str, self.sizes))} with tanh"


class FourierFeatures(nn.Module):
    """Random Fourier features cos(Omega x + b) (A. Rahimi and B. Recht, NeurIPS 2007), weighted by training.

    Omega ~ N(0, 2/n_in) and b ~ U(0, 2 pi) are fixed, for the kernel exp(-|x - x'|^2 / n_in). With n_w
    weights of the circuit and D = floor(n_w / n_out) there are

        D >= n_out           n_out trained sums of D features, D n_out weights,
        n_out <= n_w         n_out features, each with a trained amplitude,
        otherwise            n_out features, nothing trained,

    so that there are at most as many weights as the circuit has.
    """

    def __init__(self, inputs: int, outputs: int, weights: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.sums, self.trained = weights // outputs >= outputs, weights >= outputs
        self.features = weights // outputs if self.sums else outputs
        self.register_buffer("frequencies", torch.randn(self.features, inputs) * math.sqrt(2 / inputs))
        self.register_buffer("phases", torch.rand(self.features) * 2 * math.pi)
        if self.trained:
            shape = (outputs, self.features) if self.sums else (outputs,)
            scale = math.sqrt(self.features) if self.sums else 1.0
            self.weight = nn.Parameter(torch.empty(shape).uniform_(-1, 1) / scale)

    def forward(self, values: Tensor) -> Tensor:
        """Map values (..., inputs) to (..., outputs)."""
        frequencies, phases = self.get_buffer("frequencies"), self.get_buffer("phases")
        features = torch.cos(nn.functional.linear(values, frequencies.to(values), phases.to(values)))
        if not self.trained:
            return features
        weight = self.weight.to(values.dtype)
        return nn.functional.linear(features, weight) if self.sums else features * weight

    @property
    def words(self) -> str:
        """What it is."""
        rest = f", trained sums: {self.outputs}" if self.sums else ", trained amplitudes"
        return f"random Fourier features: {self.features}{rest if self.trained else ''}"


class HashedLayer(nn.Module):
    """y = tanh(W x) with as many trained numbers as the circuit has (W. Chen et al., arXiv 1504.04788).

    Each place of W has a sign and one of the n_w weights, by a fixed hash of the place; there are no more
    weights than places. A circuit without weights has a stand-in whose W is random and fixed. This is the
    classical twin of any circuit that has none of its own.
    """

    def __init__(self, inputs: int, outputs: int, weights: int) -> None:
        super().__init__()
        self.shape = (outputs, inputs)
        self.count = weights = min(weights, inputs * outputs)
        if not weights:
            self.register_buffer("matrix", torch.randn(outputs, inputs) / math.sqrt(inputs))
            return
        numbers = torch.arange(outputs * inputs, dtype=torch.int64)
        places = numbers * HASH % 2**32  # all different, since the multiplier is odd
        signs = 1.0 - 2.0 * (numbers * SIGN_HASH % 2**32 >> 31)
        chosen = torch.empty_like(numbers)
        chosen[places.argsort()] = numbers % weights  # every weight has about equally many places
        self.register_buffer("chosen", chosen.reshape(self.shape), persistent=False)
        self.register_buffer("signs", (signs / math.sqrt(inputs)).reshape(self.shape), persistent=False)
        self.weight = nn.Parameter(torch.empty(weights).uniform_(-1, 1))

    def forward(self, values: Tensor) -> Tensor:
        """Map values (..., inputs) to (..., outputs)."""
        if self.count:
            matrix = self.weight[self.get_buffer("chosen")] * self.get_buffer("signs")
        else:
            matrix = self.get_buffer("matrix")
        return torch.tanh(nn.functional.linear(values, matrix.to(values.dtype)))

    @property
    def words(self) -> str:
        """What it is."""
        shared = f"{self.count} weights" if self.count else "fixed random weights"
        return f"dense layer {self.shape[1]}-{self.shape[0]} of {shared} with tanh"


class RawProducts(nn.Module):
    """The inputs and all products of two of them: x_i, then x_i x_j with i < j. Nothing is trained.

    Attributes:
        inputs: Numbers that come in, n.
        outputs: n + n (n - 1) / 2.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        pairs = list(combinations(range(inputs), 2))
        self.outputs = inputs + len(pairs)
        self.register_buffer("pairs", torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Map values (..., inputs) to (..., outputs)."""
        first, second = self.get_buffer("pairs").unbind(1)
        return torch.cat([values, values[..., first] * values[..., second]], dim=-1)

    @property
    def words(self) -> str:
        """What it is."""
        return f"{self.inputs} raw values and their {self.outputs - self.inputs} products"
