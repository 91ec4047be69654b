"""Pauli strings of any width on matrix product states, all strings of a circuit in one sweep.

<P> is a product of transfer matrices from the left end to the right one. What lies left of a string's first
letter and right of its last is the same for all strings and is computed once. Between them, strings with
equal beginnings share their environments, and the environments of one site are carried as one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from qhybrid.noise.paulis import ComplexArray

GROUP_STRINGS = 256
"""Most strings whose environments are carried at once; gradients compute those of more groups again."""
GROUP_ENTRIES = 2**25
"""Complex numbers that the environments of a group may take at all sites."""
CHANNELS = 6
"""Strings that may cross a cut in one operator; more are applied as several and added."""
Suffix = tuple[tuple[int, int], ...]
READY: Suffix = ((-1, 0),)
DONE: Suffix = ()


@dataclass(frozen=True)
class SiteString:
    """A term of an observable: pairs (site, number of the one-site matrix), by site."""

    observable: int
    coefficient: float
    letters: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _SiteStep:
    """What happens at one site.

    Attributes:
        site: The site.
        parents: For every one-site matrix in use (None: the identity), which environments it continues;
            the number after the last one is the environment that is common to all strings.
        ends: For every string that ends here, the number of its new environment.
        ending: These strings.
        kept: New environments that other strings continue.
    """

    site: int
    parents: tuple[tuple[int | None, tuple[int, ...]], ...]
    ends: tuple[int, ...]
    ending: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True)
class ChainReadout:
    """The read-outs of a circuit.

    Attributes:
        strings: The terms of all observables.
        matrices: Different one-site matrices, shape (M, 2, 2).
        num_sites: Length of the chain.
        num_observables: Number of observables.
        largest_bond: Largest bond of the states that are read.
    """

    strings: tuple[SiteString, ...]
    matrices: ComplexArray
    num_sites: int
    num_observables: int
    largest_bond: int

    def scales(self) -> list[float]:
        """Return for every observable the sum of its absolute coefficients, the identity's left out."""
        result = [0.0] * self.num_observables
        for string in self.strings:
            if string.letters:
                result[string.observable] += abs(string.coefficient)
        return result

    def work(self, bonds: Sequence[int]) -> tuple[float, float, float, int]:
        """Return complex multiply-adds, numbers written and kept at once, and operators.

        Args:
            bonds: Bonds at cut 0 to the last.
        """
        sizes = [3 * left * right + right * right for left, right in pairwise(bonds)]
        costs = [2 * left * right * (left + right) for left, right in pairwise(bonds)]
        flops, written = 2.0 * sum(costs), 2.0 * sum(sizes)
        operators, largest = 10 * self.num_sites, 0.0
        for group in self._groups:
            counts = [(step.site, sum(len(own) for _, own in step.parents)) for step in group]
            flops += sum(count * costs[site] for site, count in counts)
            entries = float(sum(count * sizes[site] for site, count in counts))
            written, largest = written + entries, max(largest, entries)
            operators += sum(6 * len(step.parents) + 6 for step in group)
        return flops, written, 2.0 * sum(sizes) + largest, operators

    @property
    def num_groups(self) -> int:
        """Number of groups of strings that are carried one after the other."""
        return len(self._groups)

    @cached_property
    def _groups(self) -> list[list[_SiteStep]]:
        places = [place for place, string in enumerate(self.strings) if string.letters]
        places.sort(key=lambda place: self.strings[place].letters)
        parts: list[list[int]] = []
        taken = 0
        for place in places:
            letters = self.strings[place].letters
            entries = 4 * self.largest_bond**2 * (letters[-1][0] - letters[0][0] + 1)
            if not parts or len(parts[-1]) >= GROUP_STRINGS or taken + entries > GROUP_ENTRIES:
                parts.append([])
                taken = 0
            parts[-1].append(place)
            taken += entries
        return [self._steps(part) for part in parts]

    def _steps(self, places: Sequence[int]) -> list[_SiteStep]:
        letters = {place: dict(self.strings[place].letters) for place in places}
        first = {place: min(letters[place]) for place in places}
        last = {place: max(letters[place]) for place in places}
        node: dict[int, int] = {}
        steps, count = [], 0
        for site in range(min(first.values()), max(last.values()) + 1):
            active = [place for place in places if first[place] <= site <= last[place]]
            if not active:
                continue
            children: dict[int | None, dict[int, None]] = {}
            for place in active:
                parent = node.get(place, count)
                children.setdefault(letters[place].get(site), {})[parent] = None
            order = [(letter, parent) for letter, parents in children.items() for parent in parents]
            number = {key: index for index, key in enumerate(order)}
            found = {place: number[letters[place].get(site), node.get(place, count)] for place in active}
            ending = [place for place in active if last[place] == site]
            going = [place for place in active if last[place] > site]
            kept = sorted({found[place] for place in going})
            node = {place: kept.index(found[place]) for place in going}
            count = len(kept)
            parents = tuple((letter, tuple(own)) for letter, own in children.items())
            ends = tuple(found[place] for place in ending)
            steps.append(_SiteStep(site, parents, ends, tuple(ending), tuple(kept)))
        return steps

    def __call__(self, sites: Sequence[torch.Tensor], batch: int) -> torch.Tensor:
        """Return the observables, shape (n_obs, B), of states given by their site tensors."""
        like = sites[0] if sites else torch.zeros((), dtype=torch.complex128)
        result = like.real.new_zeros((self.num_observables, batch))
        constants = [string for string in self.strings if not string.letters]
        if constants:
            values = result.new_tensor([[string.coefficient] for string in constants]).expand(-1, batch)
            result = result.index_add(0, _places([s.observable for s in constants], result), values)
        if not self._groups:
            return result
        table = torch.as_tensor(self.matrices).to(like)
        lefts, rights = _left_environments(sites), _right_environments(sites)
        for group in self._groups:
            arguments = (group, table, sites, lefts, rights, batch)
            if len(self._groups) > 1 and torch.is_grad_enabled() and any(one.requires_grad for one in sites):
                values = checkpoint(_group_values, *arguments, use_reentrant=False)
            else:
                values = _group_values(*arguments)
            strings = [self.strings[place] for step in group for place in step.ending]
            factors = result.new_tensor([[string.coefficient] for string in strings])
            result = result.index_add(0, _places([s.observable for s in strings], result), values * factors)
        return result


def channel(string: SiteString, cut: int) -> Suffix:
    """Return what of a string is left to be applied at sites from `cut` on."""
    if string.letters[0][0] >= cut:
        return READY
    return tuple(letter for letter in string.letters if letter[0] >= cut)


def operator_groups(strings: Sequence[SiteString]) -> list[list[SiteString]]:
    """Split strings into groups of which few cross each cut."""
    result: list[list[SiteString]] = []
    crossing: dict[int, set[Suffix]] = {}
    for string in sorted((one for one in strings if one.letters), key=lambda one: one.letters):
        cuts = range(string.letters[0][0] + 1, string.letters[-1][0] + 1)
        fits = all(len(crossing.get(cut, set()) | {channel(string, cut)}) <= CHANNELS for cut in cuts)
        if not result or not fits:
            result.append([])
            crossing = {}
        result[-1].append(string)
        for cut in cuts:
            crossing.setdefault(cut, set()).add(channel(string, cut))
    return result


def _group_values(
    group: Sequence[_SiteStep],
    table: torch.Tensor,
    sites: Sequence[torch.Tensor],
    lefts: Sequence[torch.Tensor],
    rights: Sequence[torch.Tensor],
    batch: int,
) -> torch.Tensor:
    """Return <P> of the strings of a group in the order in which they end, shape (T, B)."""
    nodes: torch.Tensor | None = None
    values = []
    for step in group:
        tensor, common = sites[step.site], lefts[step.site].unsqueeze(1)
        count = 0 if nodes is None else nodes.shape[1]
        grown = []
        for letter, parents in step.parents:
            read = tensor if letter is None else table[letter] @ tensor
            pool = nodes
            if nodes is None or count in parents:
                pool = common if nodes is None else _joined([nodes, common])
            assert pool is not None
            chosen = pool if parents == tuple(range(pool.shape[1])) else pool[:, list(parents)]
            grown.append(_transferred(chosen, tensor, read))
        nodes = _joined(grown)
        if step.ends:
            ended = nodes.index_select(1, _places(step.ends, nodes))
            closed = (ended * rights[step.site + 1].unsqueeze(1)).sum((2, 3)).real
            values.append(closed.t().expand(-1, batch))
        nodes = nodes.index_select(1, _places(step.kept, nodes)) if step.kept else None
    return torch.cat(values)


def _transferred(environments: torch.Tensor, bra: torch.Tensor, ket: torch.Tensor) -> torch.Tensor:
    """Return environments one site further right.

    Args:
        environments: Shape (B or 1, M, l, l), the bra's bond first.
        bra: Site tensor, shape (B or 1, l, 2, r); it is conjugated here.
        ket: Site tensor with the one-site matrix applied.
    """
    left, right = bra.shape[1], bra.shape[3]
    half = environments @ ket.reshape(-1, 1, left, 2 * right)
    half = half.reshape(*half.shape[:2], 2 * left, right)
    flat = bra.reshape(-1, 1, 2 * left, right)
    # Several forward derivatives at once: torch batches them through conjugated copies, not through views.
    is_dual = forward_ad._current_level >= 0 and not torch._C._are_functorch_transforms_active()
    return (flat.conj_physical().mT if is_dual else flat.mH) @ half


def _left_environments(sites: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the environments of cut 0, 1, ..., shape (B or 1, D, D) each, the bra's bond first."""
    found = [sites[0].new_ones((1, 1, 1))]
    for tensor in sites:
        found.append(_transferred(found[-1].unsqueeze(1), tensor, tensor).squeeze(1))
    return found


def _right_environments(sites: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return what lies right of cut 0, 1, ...; environments times these, summed, close the chain."""
    found = [sites[0].new_ones((1, 1, 1))]
    for tensor in reversed(sites):
        flipped = tensor.permute(0, 3, 2, 1)
        found.append(_transferred(found[-1].unsqueeze(1), flipped, flipped).squeeze(1))
    return found[::-1]


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return environments one after the other; those without samples are the same for all of them."""
    if len(parts) == 1:
        return parts[0]
    samples = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(samples, -1, -1, -1) for part in parts], 1)


def _places(places: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(places, dtype=torch.long, device=like.device)
