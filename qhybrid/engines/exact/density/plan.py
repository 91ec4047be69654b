"""Plan a noisy circuit as layers: maps of single qubits and permutations of Pauli strings take turns.

The first maps make a product of the state |0...0>, the last ones make products of the observables' strings.
Between the two, either the samples' states are carried forward or the strings backward (the Heisenberg
picture, possible where no angle in between depends on the data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qhybrid.engines.exact.density.forms import Constant, Form, NoForm, Permutation, Rotation, forms_of
from qhybrid.engines.exact.light_cone import UNIT_ROWS, PauliTerm, light_cone
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.engines.lowering import Lowered

WIDEST = 12
"""Qubits above which the method is not considered."""
TILE = 6
"""Qubits whose maps are applied while a tile of the state lies in the cache."""
CARRIED = (0, 1)
"""Lowest qubits, which are in every tile: 16 strings lie side by side, four lines of the cache or more."""
WIDEST_TILE = 7
"""Qubits of a tile with those that are carried."""
AFFINE_TOLERANCE = 1e-15


@dataclass
class QubitMap:
    """A trace-preserving map of one qubit: a constant, then rotations, each with a constant behind it.

    Attributes:
        before: Transfer matrix, shape (4, 4).
        turns: Triples (letter, angle, transfer matrix behind).
    """

    before: Array = field(default_factory=lambda: np.eye(4))
    turns: list[tuple[str, Angle, Array]] = field(default_factory=list)

    def add(self, form: Rotation | Constant) -> None:
        """Put a map behind this one."""
        if isinstance(form, Rotation):
            self.turns.append((form.letter, form.angle, np.eye(4)))
        elif self.turns:
            letter, angle, behind = self.turns[-1]
            self.turns[-1] = letter, angle, form.matrix @ behind
        else:
            self.before = form.matrix @ self.before

    @property
    def batched(self) -> bool:
        """Whether it depends on the data."""
        return any(angle.batched for _, angle, _ in self.turns)

    @property
    def affine(self) -> bool:
        """Whether it moves the maximally mixed state."""
        constants = [self.before, *(behind for _, _, behind in self.turns)]
        return any(np.abs(matrix[1:, 0]).max() > AFFINE_TOLERANCE for matrix in constants)


Maps = dict[int, QubitMap]


@dataclass(frozen=True)
class Step:
    """One pass over a state: a permutation, maps, and at the end another permutation.

    Attributes:
        layer: Index of the layer of permutations in front, or -1.
        tile: Mask of the qubits of a tile.
        maps: Pairs (qubit, number of its map).
        after: Index of the layer of permutations behind, or -1.
    """

    layer: int
    tile: int
    maps: tuple[tuple[int, int], ...]
    after: int = -1


@dataclass(frozen=True)
class DensityPlan:
    """A circuit in layers; qubit 0 is the lowest digit of a string's index.

    Attributes:
        num_qubits: Number of qubits in the light cone of what is read.
        first: Maps that make the product state.
        layers: Then permutations and maps in turn: (permutations in time order, maps).
        last: Maps in front of the read-outs; empty where they depend on the data.
        rows: What is read behind them, as products of one-qubit rows, shape (S, num_qubits, 4).
        terms: Triples (row of `rows`, observable, coefficient).
        constants: Pairs (observable, value).
    """

    num_qubits: int
    first: Maps
    layers: tuple[tuple[tuple[Permutation, ...], Maps], ...]
    last: Maps
    rows: Array
    terms: tuple[tuple[int, int, float], ...]
    constants: tuple[tuple[int, float], ...]

    @property
    def backward(self) -> bool:
        """Whether the strings can be carried instead of the states."""
        return not any(one.batched for _, maps in self.layers for one in maps.values())

    def steps(self, transposed: bool) -> tuple[tuple[Step, ...], list[QubitMap]]:
        """Return the passes, and the maps in the order of their numbers."""
        steps: list[Step] = []
        maps: list[QubitMap] = []
        parts = [(kind, layer) for layer in range(len(self.layers)) for kind in ("permute", "map")]
        pending = -1
        for kind, layer in reversed(parts) if transposed else parts:
            if kind == "permute":
                pending = layer
                continue
            for tile in _tiles(sorted(self.layers[layer][1])):
                numbered = tuple((qubit, len(maps) + number) for number, qubit in enumerate(tile))
                maps += [self.layers[layer][1][qubit] for qubit in tile]
                steps.append(Step(pending, _mask((*CARRIED, *tile)), numbered))
                pending = -1
        if pending >= 0 and steps:
            steps[-1] = replace(steps[-1], after=pending)
        elif pending >= 0:
            steps.append(Step(pending, _mask(range(min(TILE, self.num_qubits))), ()))
        return tuple(steps), maps


def _tiles(qubits: Sequence[int]) -> list[list[int]]:
    """Divide qubits into as few tiles as possible, of equal size."""
    for count in range(1, len(qubits) + 1):
        tiles = [part.tolist() for part in np.array_split(np.array(qubits), count)]
        if all(len(tile) <= TILE and len({*CARRIED, *tile}) <= WIDEST_TILE for tile in tiles):
            return tiles
    return []


def _mask(qubits: Sequence[int] | range) -> int:
    return sum(1 << qubit for qubit in set(qubits))


def plan_density(lowered: Lowered, terms: Sequence[PauliTerm]) -> DensityPlan | None:
    """Plan a circuit, or return None where it is too wide, too simple or made of other gates.

    Args:
        lowered: The circuit.
        terms: What is read.
    """
    support = sorted({wire for term in terms for wire in term.support})
    primitives = [lowered.primitives[index] for index in light_cone(lowered.primitives, support)]
    touched = sorted({wire for primitive in primitives for wire in primitive.qubits})
    if not 1 < len(touched) <= WIDEST:
        return None
    place = {wire: number for number, wire in enumerate(touched)}
    try:
        levels = _levels([form for primitive in primitives for form in forms_of(primitive)], place)
    except NoForm:
        return None
    if not levels.permutations:
        return None
    return _planned(levels, place, terms)


@dataclass
class _Levels:
    """Maps at even levels, permutations at odd ones."""

    maps: dict[int, Maps] = field(default_factory=dict)
    permutations: dict[int, list[Permutation]] = field(default_factory=dict)


def _levels(forms: Sequence[Form], place: dict[int, int]) -> _Levels:
    """Put every form on the first level behind all that acted on its qubits."""
    levels, last = _Levels(), dict.fromkeys(place.values(), 0)
    for form in forms:
        if isinstance(form, Permutation):
            first, second = (place[wire] for wire in form.qubits)
            level = max(last[first], last[second])
            level += 1 - level % 2
            levels.permutations.setdefault(level, []).append(
                Permutation((first, second), form.source, form.scale)
            )
            last[first] = last[second] = level
        else:
            qubit = place[form.qubit]
            last[qubit] += last[qubit] % 2
            levels.maps.setdefault(last[qubit], {}).setdefault(qubit, QubitMap()).add(form)
    return levels


def _planned(levels: _Levels, place: dict[int, int], terms: Sequence[PauliTerm]) -> DensityPlan | None:
    num_qubits = len(place)
    rows, kept, constants = _rows(terms, place)
    end = max(levels.permutations)
    final = levels.maps.get(end + 1, {})
    layers = [
        (tuple(levels.permutations.get(level, ())), levels.maps.get(level + 1, {}))
        for level in range(1, end + 1, 2)
    ]
    strings = all(not term.rows for term in terms)
    if not final and strings:  # permutations at the end are followed by the strings alone
        permutations, _ = layers.pop()
        rows, factors = _pulled(rows, permutations, num_qubits)
        kept = tuple((row, observable, value * factors[row]) for row, observable, value in kept)
        final = layers[-1][1] if layers else {}
    if not layers:
        return None
    last = {} if any(one.batched for one in final.values()) else final
    if last:
        layers[-1] = (layers[-1][0], {})
    first = levels.maps.get(0, {})
    return DensityPlan(num_qubits, first, tuple(layers), last, rows, kept, constants)


def _rows(
    terms: Sequence[PauliTerm], place: dict[int, int]
) -> tuple[Array, tuple[tuple[int, int, float], ...], tuple[tuple[int, float], ...]]:
    """Return distinct products, where they are added, and constants; qubits without gates are |0>."""
    found: dict[tuple[tuple[float, ...], ...], int] = {}
    kept, constants = [], []
    for term in terms:
        coefficient, own = term.coefficient, [UNIT_ROWS[0]] * len(place)
        for wire, row in zip(term.support, term.vectors):
            if wire in place:
                own[place[wire]] = row
            else:
                coefficient *= row[0] + row[3]
        if all(wire not in place for wire in term.support):
            constants.append((term.observable, coefficient))
        elif coefficient:
            kept.append((found.setdefault(tuple(own), len(found)), term.observable, coefficient))
    rows = np.array(list(found), dtype=float).reshape(len(found), len(place), 4)
    return rows, tuple(kept), tuple(constants)


def _pulled(rows: Array, permutations: Sequence[Permutation], num_qubits: int) -> tuple[Array, list[float]]:
    """Return the strings in front of permutations, and their factors."""
    letters, factors = rows.argmax(axis=2), []
    for string in letters:
        factor = 1.0
        for permutation in reversed(permutations):
            first, second = permutation.qubits
            index = 4 * string[first] + string[second]
            factor *= permutation.scale[index]
            string[first], string[second] = divmod(permutation.source[index], 4)
        factors.append(factor)
    return np.eye(4)[letters].reshape(-1, num_qubits, 4), factors


def tables(permutations: Sequence[Permutation], num_qubits: int, transposed: bool) -> tuple[Array, Array]:
    """Return (source, scale) of permutations in time order on all strings, each of shape (4^num_qubits,)."""
    index = np.arange(4**num_qubits, dtype=np.uint32)
    source, scale = index, np.ones(len(index))
    for permutation in permutations:
        first, second = (np.uint32(2 * qubit) for qubit in permutation.qubits)
        own = 4 * (index >> first & 3) + (index >> second & 3)
        moved = np.array(permutation.source, dtype=np.uint32)[own]
        others = ~np.uint32((3 << int(first)) | (3 << int(second)))
        came = index & others | (moved // 4) << first | (moved % 4) << second
        source, scale = source[came], np.array(permutation.scale)[own] * scale[came]
    if not transposed:
        return source, scale
    inverse = np.empty_like(source)
    inverse[source] = index
    return inverse, scale[inverse]
