"""The part of a model before its quantum layers, computed once and handed out in later passes.

Which modules these are is seen in a forward pass: all calls that have ended before the first call of a layer
that is to be replaced. Of calls inside each other the outermost one is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qhybrid.layers import QuantumLayer

Key = tuple[str, int]
"""A module's name, and which call of it in a forward pass."""


@dataclass
class _Call:
    """One call of a module in the traced pass; `ended` counts up over all calls."""

    key: Key
    parent: _Call | None
    started: int
    ended: int = -1
    keepable: bool = True


class KeptParts:
    """Outputs of the modules before the layers, batch by batch.

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
        self._kept: dict[int, dict[Key, Any]] = {}
        self._batches = 0
        self._used = 0

    def clear(self) -> None:
        """Forget everything that was kept."""
        self._kept, self._used, self._batches = {}, 0, 0

    def trace(self, image: Tensor) -> None:
        """See in which order modules are called; a batch of one sample is enough."""
        self._calls = []
        with self._traced():
            self._model(image)
        self._wanted = frozenset(key for name in self._layers for key in self._before([name]))

    def record(self, images: Tensor) -> Tensor:
        """Run the model on the next batch of the first pass, and keep what comes before the layers."""
        place, self._batches = self._batches, self._batches + 1
        found: dict[Key, Any] = {}
        with self._watched(found):
            logits: Tensor = self._model(images)
        size = sum(map(_size, found.values()))
        if self._used + size <= self._limit:
            self._used += size
            self._kept[place] = found
        return logits

    def run(self, images: Tensor, place: int, replaced: Iterable[str]) -> Tensor:
        """Run the model on a batch of an earlier pass; what comes before the layers is handed out.

        Args:
            images: The batch.
            place: Its number in the first pass.
            replaced: Names of the layers that are replaced.
        """
        kept = self._kept.get(place)
        parts = {} if kept is None else {key: kept[key] for key in self._before(replaced)}
        with self._handed_out(parts):
            logits: Tensor = self._model(images)
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
    def _traced(self) -> Iterator[None]:
        """Note the order in which modules are called, and begin and end."""
        stack: list[_Call] = []
        clock = iter(range(2**62))
        counts: dict[str, int] = {}
        handles = []
        for name, module in self._modules.items():

            def begin(_: nn.Module, __: Any, name: str = name) -> None:
                key = name, counts.get(name, 0)
                counts[name] = key[1] + 1
                stack.append(_Call(key, stack[-1] if stack else None, next(clock)))
                self._calls.append(stack[-1])

            def end(_: nn.Module, __: Any, output: Any) -> None:
                call = stack.pop()
                call.ended, call.keepable = next(clock), _is_of_tensors(output)

            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _watched(self, found: dict[Key, Any]) -> Iterator[None]:
        """Keep copies of the wanted outputs: later parts of a model may write into them."""
        counts: dict[str, int] = {}
        handles = []
        for name in {name for name, _ in self._wanted}:

            def end(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                key = name, counts.get(name, 0)
                counts[name] = key[1] + 1
                if key in self._wanted:
                    found[key] = _copy(output)

            handles.append(self._modules[name].register_forward_hook(end))
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
                return _copy(kept[key]) if key in kept else own(*given, **named)

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


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.preserve_format)
    return type(value)(_copy(one) for one in value)
