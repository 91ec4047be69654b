"""What the benchmarks share: training steps, interleaved timing, rates of matrix products, tables."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import Engine
from qhybrid.workspace import write_text

Run = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes inputs (B, n_in) and weights (n_w,), returns expectation values (B, n_obs)."""


def random_angles(
    spec: CircuitSpec, batch: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and weights that ask for gradients."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator).to(device=device, dtype=dtype)
    weights = torch.randn(spec.num_weights, generator=generator).to(device=device, dtype=dtype)
    return inputs.requires_grad_(), weights.requires_grad_()


def step(run: Run, spec: CircuitSpec, batch: int, device: str = "cpu") -> Callable[[], None]:
    """Return one training step: value and gradient of sum(y^2) with respect to inputs and weights."""
    inputs, weights = random_angles(spec, batch, device)

    def take() -> None:
        inputs.grad = weights.grad = None
        run(inputs, weights).square().sum().backward()
        if device != "cpu":
            torch.cuda.synchronize()

    return take


def engine_step(engine: Engine, spec: CircuitSpec, batch: int, device: str = "cpu") -> Callable[[], None]:
    """Return a training step of an engine."""
    return step(lambda inputs, weights: engine.expectations(spec, inputs, weights), spec, batch, device)


def seconds_of(functions: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """Return each function's shortest time of several, taken in turns: without other work's share."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, taken in zip(functions, times):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def product_rate(device: str = "cpu", size: int = 1024) -> float:
    """Return the floating-point operations a second in a float32 matrix product."""
    a, b = torch.randn(2, size, size, device=device).unbind(0)

    def multiply() -> None:
        a @ b
        if device != "cpu":
            torch.cuda.synchronize()

    (seconds,) = seconds_of([multiply], 10)
    return 2 * size**3 / seconds


def arithmetic_limit(flops: float, rate: float) -> float:
    """Return the seconds that a sample's value and gradient take at a rate of matrix products.

    Args:
        flops: Multiply-adds of the value; value and gradient take three times as many.
        rate: Floating-point operations a second, two a multiply-add.
    """
    return 6 * flops / rate


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def arguments_of(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--output", type=Path, help="Markdown file for the tables")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="torch device of the exact engine")
    return parser


def report(sections: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print the sections under a line about the machine; write them to the output file, if there is one."""
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    name = (
        torch.cuda.get_device_name()
        if arguments.device != "cpu"
        else platform.processor() or platform.machine()
    )
    text = "\n\n".join([f"Value and gradient, float32, {threads}, {name}.", *sections]) + "\n"
    print(text)
    if arguments.output:
        write_text(arguments.output, text)
