"""Record value and gradient of a batch as CUDA graphs, and replay them: one launch for hundreds of kernels.

Small states cost the launches of their kernels, not their arithmetic. A recorded step reads its arguments
from buffers of its own, so every call copies them in and the results out: weights may change in place, and
no result is overwritten later. What is recorded for one batch size holds for no other.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch

from qhybrid.engines.base import ordinary_tensors
from qhybrid.engines.transforms import gradients_by_twin, is_transformed, is_vectorised, no_autocast

Tensors = tuple[torch.Tensor, ...]
Function = Callable[[], Tensors]
Run = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes input rows (n_in, B) and weights (n_w,), returns values (n_obs, B); differentiable at least twice."""
LARGEST_RECORDS = 4
"""Batch sizes of a circuit that are kept; the one used longest ago is given up for a new one."""
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest deviation of a replay from the plain run, relative to the largest value where that exceeds 1."""


class Recorder(Protocol):
    """Records functions without arguments that read and return tensors at fixed places."""

    def place(self) -> Hashable:
        """Return where the caller works (the CUDA stream): records of two places share no memory."""
        ...

    def record(self, functions: Sequence[Function]) -> list[tuple[Tensors, Callable[[], None]]]:
        """Run functions once in order; return what each returned, and what runs it again into the same."""
        ...


class CudaGraphs:
    """The recorder of a CUDA device.

    Args:
        device: The device.
    """

    WARM_UPS = 3

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def place(self) -> Hashable:
        """Return the stream at work."""
        return torch.cuda.current_stream(self._device).cuda_stream

    def record(self, functions: Sequence[Function]) -> list[tuple[Tensors, Callable[[], None]]]:
        """See `Recorder.record`."""
        with torch.cuda.device(self._device):
            # Libraries set themselves up in their first calls, which must not be recorded.
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            caller = torch.cuda.current_stream()
            side.wait_stream(caller)
            with torch.cuda.stream(side):
                for _ in range(self.WARM_UPS):
                    for function in functions:
                        function()
            caller.wait_stream(side)
            torch.cuda.synchronize()
            pool, found = torch.cuda.graph_pool_handle(), []
            for function in functions:
                graph = torch.cuda.CUDAGraph()
                # Other threads, such as those that pin a loader's memory, may go on meanwhile.
                with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    outputs = function()
                found.append((outputs, graph.replay))
            return found


class _Record:
    """Value and gradient of one batch size at fixed places.

    Args:
        run: What is recorded.
        inputs: Input rows of the first call, shape (n_in, B).
        weights: Weights of the first call, shape (n_w,).
        recorder: Records it.

    Raises:
        RuntimeError: If it cannot be recorded, or a replay differs from the plain run.
    """

    def __init__(self, run: Run, inputs: torch.Tensor, weights: torch.Tensor, recorder: Recorder) -> None:
        self._run = run
        self._lock = threading.RLock()
        self._turn = 0
        with ordinary_tensors(), torch.enable_grad():
            self._leaves = [one.detach().clone().requires_grad_() for one in (inputs, weights)]
            plain = run(*self._leaves)
            self._above = torch.ones_like(plain)
            known = [plain.detach(), *self._slopes(plain)]
            (values, self._forward), (slopes, self._backward) = recorder.record(
                [self._record_values, self._record_slopes]
            )
            self._values, self._gradients = values[0], slopes
        found, turn = self.values(inputs, weights)
        self._check([found, *self.gradients(turn, inputs, weights, torch.ones_like(found))], known)

    def values(self, inputs: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the values, and the number of this turn: later turns overwrite what its gradient needs."""
        with self._lock, torch.no_grad():
            self._turn += 1
            for leaf, given in zip(self._leaves, (inputs, weights)):
                leaf.copy_(given)
            self._forward()
            return self._values.detach().clone(), self._turn

    def gradients(
        self, turn: int, inputs: torch.Tensor, weights: torch.Tensor, above: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the gradients of inputs and weights.

        Args:
            turn: The turn that computed the values; if another came since, they are computed again.
            inputs: Input rows of that turn.
            weights: Weights of that turn.
            above: Gradient of the values, shape (n_obs, B).
        """
        with self._lock, torch.no_grad():
            if turn != self._turn:
                self.values(inputs, weights)
            self._above.copy_(above)
            self._backward()
            return [one.clone() for one in self._gradients]

    def _record_values(self) -> Tensors:
        with torch.inference_mode(False), torch.enable_grad():
            self._traced = self._run(*self._leaves)
        return (self._traced.detach(),)

    def _record_slopes(self) -> Tensors:
        with torch.inference_mode(False):
            return self._slopes(self._traced)

    def _slopes(self, values: torch.Tensor) -> Tensors:
        if not values.requires_grad:
            return tuple(torch.zeros_like(leaf) for leaf in self._leaves)
        return torch.autograd.grad(
            values, self._leaves, self._above, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    def _check(self, found: Sequence[torch.Tensor], known: Sequence[torch.Tensor]) -> None:
        for own, right in zip(found, known):
            if not right.numel():
                continue
            scale = max(1.0, float(right.abs().max()))
            deviation = float((own - right).abs().max())
            if not deviation <= TOLERANCES[right.dtype] * scale:
                raise RuntimeError(f"a replay differs from the plain run by {deviation:.3g}")


class ReplayedExecutor:
    """Runs a circuit by recorded steps.

    The first call of a batch size runs plainly, the second records. Transforms of `torch.func`, forward
    derivatives, derivatives of gradients, and what cannot be recorded run plainly too.

    Args:
        run: What is recorded.
        recorder: Records it.
        largest: Most samples that are recorded.
    """

    def __init__(self, run: Run, recorder: Recorder, largest: int) -> None:
        self.run = run
        self._recorder = recorder
        self._largest = largest
        self._records: dict[Hashable, _Record | None] = {}
        self._lock = threading.Lock()
        self._refused = False

    def __call__(self, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values, shape (n_obs, B), for input rows of shape (n_in, B)."""
        record = None if is_transformed() else self._record(inputs, weights)
        if record is None:
            return self.run(inputs, weights)
        if torch.is_grad_enabled() and (inputs.requires_grad or weights.requires_grad):
            result: torch.Tensor = _Replayed.apply(self.run, record, inputs, weights)  # type: ignore[no-untyped-call]
            return result
        return record.values(inputs, weights)[0]

    def _record(self, inputs: torch.Tensor, weights: torch.Tensor) -> _Record | None:
        batch = inputs.shape[1]
        if self._refused or batch > self._largest:
            return None
        key = batch, self._recorder.place()
        with self._lock:
            known = key in self._records
            record = self._records.pop(key, None)
            if known and record is None:
                record = self._recorded(inputs, weights)
            self._records[key] = record  # At the end: used last.
            while len(self._records) > LARGEST_RECORDS:
                del self._records[next(iter(self._records))]
        return record

    def _recorded(self, inputs: torch.Tensor, weights: torch.Tensor) -> _Record | None:
        try:
            return _Record(self.run, inputs.detach(), weights.detach(), self._recorder)
        except RuntimeError as error:
            self._refused = True
            warnings.warn(
                f"A circuit is executed without CUDA graphs, which could not be made: {error}", stacklevel=2
            )
            return None


class _Replayed(torch.autograd.Function):
    """Value and gradient by replay; gradient of the gradient by the plain run."""

    @staticmethod
    def forward(
        ctx: Any, run: Run, record: _Record, inputs: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        values, ctx.turn = record.values(inputs, weights)
        ctx.run, ctx.record = run, record
        ctx.save_for_backward(inputs, weights)
        return values

    @staticmethod
    @no_autocast
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or is_vectorised(above[0]):
            return None, None, *gradients_by_twin(ctx.run, tensors, wanted, above[0])
        found = ctx.record.gradients(ctx.turn, *tensors, above[0])
        return None, None, *(slope if want else None for slope, want in zip(found, wanted))
