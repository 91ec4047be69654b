"""One party of benchmarks/peers.py in a process of its own: builds its step, then takes steps when told.

It answers every line on its input with one line of JSON: `step K` takes K steps, `results N PATH` writes
values and gradients for the first N samples.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from peer_families import FAMILIES, Family
from peer_steps import Step
from timing import random_angles

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import ExactEngine


@dataclass(frozen=True)
class Party:
    """Who takes part.

    Attributes:
        module: The module of its step; a package that is missing shows when it is imported.
        function: The function that makes its step.
        each: Whether it works sample by sample, so that a few samples tell its time.
        values_only: Whether it has no gradients.
    """

    module: str
    function: str
    each: bool = False
    values_only: bool = False


PARTIES = {
    "qhybrid": Party("peer_qhybrid", "exact"),
    "qhybrid, value only": Party("peer_qhybrid", "exact_values", values_only=True),
    "recurrence by hand": Party("peer_qhybrid", "recurrence"),
    "lightning": Party("peer_pennylane", "lightning", each=True),
    "default.mixed": Party("peer_pennylane", "mixed", each=True),
    "qulacs": Party("peer_qulacs", "adjoint", each=True),
    "flagquantum": Party("peer_flagquantum", "statevector"),
    "fastqml": Party("peer_fastqml", "fused"),
    "tensorcircuit": Party("peer_tensorcircuit", "plain"),
    "tensorcircuit light cones": Party("peer_tensorcircuit", "light_cones"),
    "tensorcircuit scan": Party("peer_tensorcircuit", "scan"),
    "aer density matrix, value only": Party("peer_aer", "density_matrix", each=True, values_only=True),
    "aer mps, value only": Party("peer_aer", "matrix_product_state", each=True, values_only=True),
}
"""By the name that the table shows."""
ENOUGH_SECONDS = 0.5
"""A party that works sample by sample gets as many samples as take about that long."""


def make_step(party: Party, spec: CircuitSpec, family: Family, samples: int, batch: int) -> Step:
    """Return the party's step on the first samples of a batch."""
    inputs, weights = (tensor.detach() for tensor in random_angles(spec, batch))
    step: Step = getattr(importlib.import_module(party.module), party.function)(
        spec, family, inputs[:samples].clone(), weights.clone()
    )
    return step


def fitting_samples(party: Party, spec: CircuitSpec, family: Family, batch: int) -> int:
    """Return how many samples the party is given."""
    if not party.each or batch == 1:
        return batch
    step = make_step(party, spec, family, 1, batch)
    step()
    start = time.perf_counter()
    step()
    return max(1, min(batch, int(ENOUGH_SECONDS / (time.perf_counter() - start))))


def answer(**fields: object) -> None:
    """Print one line of JSON to the parent."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve the parent until it closes the pipe."""
    name, family_name, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    party, family = PARTIES[name], FAMILIES[family_name]
    spec = family.build()
    samples = fitting_samples(party, spec, family, batch)
    step = make_step(party, spec, family, samples, batch)
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    facts: dict[str, object] = {"samples": samples, "first": first}
    if name.startswith("qhybrid"):
        found = ExactEngine(noise=family.profile()).explain(spec, batch)
        facts |= {"method": found.method, "flops": found.flops, "predicted": found.seconds}
    answer(**facts)
    for line in sys.stdin:
        command, *arguments = line.split(maxsplit=2)
        if command == "step":
            walls, processors = [], []
            for _ in range(int(arguments[0])):
                wall, processor = time.perf_counter(), time.process_time()
                step()
                walls.append(time.perf_counter() - wall)
                processors.append(time.process_time() - processor)
            answer(wall=walls, processor=processors)
        else:
            few = int(arguments[0])
            results = (step if few == samples else make_step(party, spec, family, few, batch))()
            np.savez(arguments[1].strip(), *results)
            answer(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
