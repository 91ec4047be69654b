"""The part of a model before its quantum layers, computed once and handed out in later passes.

Which modules these are is seen in a forward pass: all calls that have ended before the first call of a layer
that is to be replaced. Of calls inside each other the outermost one is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from qhybrid.layers import QuantumLayer

Key = tuple[str, int]
"""A module's name, and which call of it in a forward pass."""
Given = tuple[Tensor, ...]
"""What the model is called with: images (B, C, H, W), and token maps for a model with a frozen ViT."""


@dataclass
class _Call:
    """One call of a module in the traced pass; `ended` counts up over all calls."""

    key: Key
    parent: _Call | None
    started: int
    ended: int = -1
    keepable: bool = True


@dataclass
class _Kept:
    """Outputs of a batch, with the versions that torch counts up when a tensor is written into."""

    outputs: dict[Key, Any]
    versions: dict[Key, list[int]]

    def changed(self) -> bool:
        """Return whether something has written into one of the outputs."""
        return any(_versions(value) != self.versions[key] for key, value in self.outputs.items())


class KeptParts:
    """Outputs of the modules before the layers, batch by batch.

    They are handed out as they are, not as copies, which would cost as much as computing them: a model of
    which a later part writes into them is computed as a whole.

    Args:
        model: The network, in evaluation mode.
        layers: The layers that may be replaced, by name.
        limit: Bytes that may be kept; batches beyond are computed anew in every pass.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, QuantumLayer], limit: int) -> None:
        self._model, self._layers, self._limit = model, layers, limit
        self._modules = {name: module for name, module in model.named_modules() if name}
        self._calls: list[_Call] = []
        self._wanted: frozenset[Key] = frozenset()
        self._kept: dict[int, _Kept] = {}
        self._batches = 0
        self._used = 0

    def clear(self) -> None:
        """Forget everything that was kept."""
        self._kept, self._used, self._batches = {}, 0, 0

    def trace(self, given: Given) -> None:
        """See in which order modules are called; a batch of one sample is enough."""
        self._calls = []
        stack: list[_Call] = []
        clock = iter(range(2**62))

        def begin(key: Key) -> None:
            stack.append(_Call(key, stack[-1] if stack else None, next(clock)))
            self._calls.append(stack[-1])

        def end(key: Key, output: Any) -> None:
            call = stack.pop()
            call.ended, call.keepable = next(clock), _is_of_tensors(output)

        with self._followed(self._modules, begin, end):
            self._model(*given)
        self._wanted = frozenset(key for name in self._layers for key in self._before([name]))

    def record(self, given: Given) -> Tensor:
        """Run the model on the next batch of the first pass, and keep what comes before the layers."""
        place, self._batches = self._batches, self._batches + 1
        found = _Kept({}, {})

        def end(key: Key, output: Any) -> None:
            if key in self._wanted:
                found.outputs[key], found.versions[key] = output, _versions(output)

        with self._followed({name for name, _ in self._wanted}, None, end):
            logits: Tensor = self._model(*given)
        size = sum(map(_size, found.outputs.values()))
        if self._used + size <= self._limit and not found.changed():
            self._used += size
            self._kept[place] = found
        return logits

    def run(self, given: Given, place: int, replaced: Iterable[str]) -> Tensor:
        """Run the model on a batch of an earlier pass; what comes before the layers is handed out.

        Args:
            given: The batch.
            place: Its number in the first pass.
            replaced: Names of the layers that are replaced.
        """
        kept = self._kept.get(place)
        if kept is not None and kept.changed():  # a later part of the model writes into it
            kept = None
        parts = {} if kept is None else {key: kept.outputs[key] for key in self._before(replaced)}
        with self._handed_out(parts):
            logits: Tensor = self._model(*given)
        return logits

    def _before(self, replaced: Iterable[str]) -> list[Key]:
        """Return the outermost calls that have ended before the first call of one of the layers."""
        names = set(replaced)
        starts = [call.started for call in self._calls if call.key[0] in names]
        first = min(starts, default=-1)

        def done(call: _Call | None) -> bool:
            return call is not None and 0 <= call.ended < first and call.keepable

        return [call.key for call in self._calls if done(call) and not done(call.parent)]

    @contextmanager
    def _followed(
        self, names: Iterable[str], begin: Callable[[Key], None] | None, end: Callable[[Key, Any], None]
    ) -> Iterator[None]:
        """Call `begin` before and `end` after each call of some modules, with its key and its output."""
        counts: dict[str, int] = {}
        handles = []
        for name in names:
            # Calls of one module inside itself end in the opposite order.
            open_calls: list[Key] = []

            def before(_: nn.Module, __: Any, name: str = name, open_calls: list[Key] = open_calls) -> None:
                key = name, counts.get(name, 0)
                counts[name] = key[1] + 1
                open_calls.append(key)
                if begin is not None:
                    begin(key)

            def after(_: nn.Module, __: Any, output: Any, open_calls: list[Key] = open_calls) -> None:
                end(open_calls.pop(), output)

            module = self._modules[name]
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _handed_out(self, kept: Mapping[Key, Any]) -> Iterator[None]:
        """Let modules give what was kept, without computing it."""
        counts: dict[str, int] = {}
        before: dict[str, Any] = {}
        for name in {name for name, _ in kept}:
            module = self._modules[name]
            before[name] = module.__dict__.get("forward")

            def forward(*given: Any, own: Any = module.forward, name: str = name, **named: Any) -> Any:
                key = name, counts.get(name, 0)
                counts[name] = key[1] + 1
                return kept[key] if key in kept else own(*given, **named)

            module.__dict__["forward"] = forward
        try:
            yield
        finally:
            for name, earlier in before.items():
                if earlier is None:
                    del self._modules[name].__dict__["forward"]
                else:
                    self._modules[name].__dict__["forward"] = earlier


def _is_of_tensors(value: Any) -> bool:
    """Return whether a module's output is made of tensors, lists and tuples alone."""
    return isinstance(value, Tensor) or (type(value) in (list, tuple) and all(map(_is_of_tensors, value)))


def _size(value: Any) -> int:
    """Return the bytes of the tensors in an output."""
    return value.nbytes if isinstance(value, Tensor) else sum(map(_size, value))


def _versions(value: Any) -> list[int]:
    """Return how often each tensor of an output, or what it is a view of, was written into."""
    return (
        [value._version] if isinstance(value, Tensor) else [one for part in value for one in _versions(part)]
    )
