"""Random numbers of shots by counters: what a sample draws does not depend on how a batch is split.

Sample n of a stream always gets the same numbers, from the counter-based generator Philox (Salmon et al.
2011): its key is the hash of (seed, circuit, stream), its counter holds n. A circuit has one stream for every
weight vector, numbered in the order of their first calls, so that layers which share a circuit do not
disturb each other, and every training step draws anew.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import torch

from qhybrid.seeding import derive_seed

STREAMS_KEPT = 4096
"""Weight vectors of one circuit whose place is remembered; the oldest are forgotten first."""


class Samples:
    """Generators of consecutive samples of a stream.

    Args:
        key: Key of the stream, two words of 64 bits.
        start: Number of the first sample.
    """

    def __init__(self, key: tuple[int, int], start: int) -> None:
        self._bits = np.random.Philox(key=np.array(key, dtype=np.uint64))
        self._fresh = self._bits.state
        self._generator = np.random.Generator(self._bits)
        self._start = start

    def generator(self, unit: int, sample: int) -> np.random.Generator:
        """Return the generator of a sample; it is good until the next one is asked for.

        Args:
            unit: What is drawn: parts that are measured apart have numbers of their own.
            sample: Place of the sample in this batch.
        """
        self._fresh["state"]["counter"] = np.array([0, 0, unit, self._start + sample], dtype=np.uint64)
        self._bits.state = self._fresh
        return self._generator


class ShotSource:
    """Where shots come from.

    Args:
        seed: The seed; None for a new one.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.reseed(secrets.randbits(63) if seed is None else seed)

    def reseed(self, seed: int) -> None:
        """Begin again, from a seed."""
        self._seed = seed
        self._streams: dict[str, dict[bytes, tuple[int, int]]] = {}
        self._opened: dict[str, int] = {}

    def take(self, circuit: str, weights: torch.Tensor, count: int) -> Samples:
        """Return the generators of the next samples of a circuit.

        Args:
            circuit: What names the circuit.
            weights: Its weights, which choose the stream.
            count: Number of samples.
        """
        content = weights.detach().cpu().double().numpy().tobytes()
        name = hashlib.blake2b(content, digest_size=16).digest()
        streams = self._streams.setdefault(circuit, {})
        if name in streams:
            stream, start = streams.pop(name)
        else:
            stream, start = self._opened.get(circuit, 0), 0
            self._opened[circuit] = stream + 1
        streams[name] = stream, start + count
        if len(streams) > STREAMS_KEPT:
            del streams[next(iter(streams))]
        parts = (self._seed, "shots", circuit, stream)
        return Samples((derive_seed(*parts, 0), derive_seed(*parts, 1)), start)
