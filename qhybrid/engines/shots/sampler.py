"""Estimates of a circuit's observables from finitely many shots, drawn around exact values.

Independent: N shots of one string with mean e give (2 k - N) / N with k binomial(N, (1 + e) / 2).
Joint: the strings of one basis are read from the same N shots. They fall into parts whose light cones share
no gate, which are independent. The outcomes of a part of at most 12 qubits are drawn from their exact
multinomial law, and the strings are counted in them. For wider parts that is done where the probabilities of
the outcomes are cheap; else the counts of the strings are exactly binomial, with exact covariances of all
pairs (`copula`). A sample whose pairs no normal law has is drawn from its outcomes where these are at most
2^18; beyond, its pairs are as near as a normal law comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.engines.shots.copula import draw_counts, num_blocks, pair_factors
from qhybrid.engines.shots.multinomial import StringCounts
from qhybrid.engines.shots.outcomes import Letters, Measurement, OutcomeTable
from qhybrid.engines.shots.source import ShotSource
from qhybrid.engines.shots.strings import PauliString, as_observable, measured_strings, product_string
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

LAWS = ("joint", "independent")
SHOTS_SCHEME = 2
"""Counted up when the same seed draws other shots; 1 was a normal law, cut off at -1 and 1."""
FULL_LAW_QUBITS = 12
"""Measured qubits up to which the outcomes of a part are drawn, whatever that takes."""
WIDEST_TABLE = 18
CHEAP_SECONDS = 1e-3
"""Predicted time a sample up to which the outcomes of a wider part are drawn."""
MOST_PAIRS = 2**16
"""Pairs of strings of a part above which their covariances are out of the question."""
LARGEST_TABLE = 2**27
"""Entries of a sample above which probabilities are out of the question."""
PAIR_TOLERANCE = 1e-3
"""Error of a latent correlation up to which the pairs of a sample are taken from the normal law."""

Exact = Callable[[CircuitSpec, torch.Tensor, torch.Tensor], torch.Tensor]
Draw = Callable[[int], np.random.Generator]
"""Gives the generator of a sample by its place in the batch."""


class ShotSampler:
    """Draws estimates for one circuit.

    Args:
        spec: The circuit and its observables.
        exact: Returns exact values for a circuit, inputs and weights, read-out errors included.
        shots: Shots of every basis (joint) or every string (independent).
        law: "joint" or "independent".
        noise: The noise that `exact` computes with.
    """

    def __init__(
        self, spec: CircuitSpec, exact: Exact, shots: int, law: str, noise: NoiseProfile | None = None
    ) -> None:
        self._exact = exact
        self._shots = shots
        self._key = spec.fingerprint
        self._measured = measured_strings(spec.observables, spec.num_qubits)
        strings = self._measured.strings
        self._strings = _with_strings(spec, strings)
        self._law = law
        self._spec, self._noise = spec, noise
        self._parts: list[_Part] | None = None

    def _planned(self) -> list[_Part]:
        """Return what is drawn on its own; planned after the first exact values, which may be refused."""
        strings = self._measured.strings
        if self._law == "independent":
            return [_SingleStrings(range(len(strings)), self._shots)]
        measurement = Measurement(self._spec, self._noise)
        singles: list[int] = []
        parts: list[_Part] = []
        for basis in self._measured.bases:
            for part in measurement.parts([strings[index] for index in basis]):
                members = [basis[place] for place in part]
                if len(members) == 1:
                    singles += members
                else:
                    parts.append(self._joint(measurement, members))
        return [*parts, _SingleStrings(singles, self._shots)]

    def _joint(self, measurement: Measurement, members: list[int]) -> _CountedOutcomes | _CountedPairs:
        strings = [self._measured.strings[index] for index in members]
        letters = tuple(sorted({letter for string in strings for letter in string}))
        outcomes = None
        if len(letters) <= WIDEST_TABLE:
            table = OutcomeTable(measurement, letters)
            if table.widest <= LARGEST_TABLE:
                outcomes = _CountedOutcomes(members, strings, letters, table, self._shots)
                cheap = table.seconds <= CHEAP_SECONDS or len(strings) ** 2 > 2 ** len(letters)
                if cheap or len(letters) <= FULL_LAW_QUBITS:
                    return outcomes
        if len(strings) * (len(strings) - 1) // 2 > MOST_PAIRS:
            raise EngineError(
                f"Joint shots must have at most {WIDEST_TABLE} measured qubits or {MOST_PAIRS} pairs of "
                f"dependent strings, but circuit `{measurement.spec.name}` has {len(strings)} "
                f"strings on {len(letters)} qubits. Fix: shots_law='independent', or fewer observables."
            )
        return _CountedPairs(members, strings, measurement.spec, self._exact, self._shots, outcomes)

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor, source: ShotSource) -> torch.Tensor:
        """Return estimates, shape (B, n_obs); their gradient is that of the exact values.

        Args:
            inputs: Input angles in radians, shape (B, n_in).
            weights: Trainable angles in radians, shape (n_w,).
            source: Gives the samples' random numbers.
        """
        values = self._exact(self._strings, inputs, weights)
        if self._parts is None:
            self._parts = self._planned()
        with torch.no_grad():
            samples = source.take(self._key, weights, len(inputs))
            exact = values.detach().double().cpu().numpy()
            ups = np.empty(exact.shape)
            for unit, part in enumerate(self._parts):
                draw = partial(samples.generator, unit)
                ups[:, part.members] = part.counts(exact, inputs.detach(), weights.detach(), draw)
            drawn = torch.as_tensor(2 * ups / self._shots - 1).to(values)
        # The value is what was drawn, to the last bit; the gradient passes to the exact value.
        estimates = drawn + (values - values.detach())
        coefficients = torch.as_tensor(self._measured.coefficients).to(estimates)
        return estimates @ coefficients.t() + torch.as_tensor(self._measured.offsets).to(estimates)


class _SingleStrings:
    """Strings that share their shots with no other: each count is binomial on its own."""

    def __init__(self, members: Sequence[int], shots: int) -> None:
        self.members = list(members)
        self._shots = shots

    def counts(self, exact: Array, inputs: torch.Tensor, weights: torch.Tensor, draw: Draw) -> Array:
        """Return the counts of +1, shape (B, T)."""
        up = _probability(exact[:, self.members])
        found = np.empty(up.shape)
        if self.members:
            for place, row in enumerate(up):
                found[place] = draw(place).binomial(self._shots, row)
        return found


class _CountedOutcomes:
    """Strings that are counted in outcomes drawn from their exact law."""

    def __init__(
        self,
        members: list[int],
        strings: Sequence[PauliString],
        letters: Letters,
        table: OutcomeTable,
        shots: int,
    ) -> None:
        self.members = members
        self._table = table
        place = {qubit: bit for bit, (qubit, _) in enumerate(letters)}
        masks = [sum(1 << place[qubit] for qubit, _ in string) for string in strings]
        self._count = StringCounts(masks, len(letters), shots)

    def counts(self, exact: Array, inputs: torch.Tensor, weights: torch.Tensor, draw: Draw) -> Array:
        """Return the counts of +1, shape (B, T)."""
        found = np.empty((len(inputs), len(self.members)))
        start = 0
        for size, probabilities in self._table(inputs, weights):
            generators = map(draw, range(start, start + size))
            found[start : start + size] = self._count(probabilities, size, generators)
            start += size
        return found


class _CountedPairs:
    """Strings of a part that is too wide for a table of its outcomes, or whose table takes long."""

    def __init__(
        self,
        members: list[int],
        strings: Sequence[PauliString],
        spec: CircuitSpec,
        exact: Exact,
        shots: int,
        outcomes: _CountedOutcomes | None,
    ) -> None:
        self.members = members
        self._exact, self._shots, self._outcomes = exact, shots, outcomes
        products = [product_string(first, second) for first, second in combinations(strings, 2)]
        distinct = list(dict.fromkeys(products))
        place = {string: index for index, string in enumerate(distinct)}
        self._places = [place[product] for product in products]
        self._products = _with_strings(spec, distinct)

    def counts(self, exact: Array, inputs: torch.Tensor, weights: torch.Tensor, draw: Draw) -> Array:
        """Return the counts of +1, shape (B, T)."""
        means, size = exact[:, self.members], len(self.members)
        products = self._exact(self._products, inputs, weights).double().cpu().numpy()
        first, second = np.triu_indices(size, 1)
        covariance = (products[:, self._places] - means[:, first] * means[:, second]) / 4
        up, shape = _probability(means), (num_blocks(self._shots), size)
        factors, error = pair_factors(up, covariance, self._shots)
        normals = np.stack([draw(place).standard_normal(shape) for place in range(len(up))])
        found = draw_counts(up, factors, normals, self._shots)
        failed = np.flatnonzero(error > PAIR_TOLERANCE)
        if len(failed) and self._outcomes is not None:
            some = inputs[torch.as_tensor(failed, device=inputs.device)]
            found[failed] = self._outcomes.counts(exact[failed], some, weights, lambda at: draw(failed[at]))
        return found


def _with_strings(spec: CircuitSpec, strings: Sequence[PauliString]) -> CircuitSpec:
    return replace(spec, observables=tuple(as_observable(string, spec.num_qubits) for string in strings))


def _probability(means: Array) -> Array:
    """Return the probability of +1 of strings with these means."""
    return np.asarray(np.clip((1 + means) / 2, 0, 1))


_Part = _SingleStrings | _CountedOutcomes | _CountedPairs
