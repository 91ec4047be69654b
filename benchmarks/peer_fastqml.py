"""fastqml as a peer: layers fused to one matrix product each; up to about ten qubits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from fastqml import gate_fusion as gf
from fastqml import torch_sim_real as single
from peer_circuits import Gate, gates_of, index_of_bits, observables_of
from peer_families import Family
from peer_steps import Step, torch_step

from qhybrid.circuits import CircuitSpec

ONE = {
    "rx": gf.build_rx_gates,
    "ry": gf.build_ry_gates,
    "rz": gf.build_rz_gates,
    "p": gf.build_phase_shift_gates,
}
EACH = {"rx": gf.build_rx_per_batch, "ry": gf.build_ry_per_batch, "rz": gf.build_rz_per_batch}
TWO = {
    "crx": gf.build_crx_4x4,
    "cry": gf.build_cry_4x4,
    "crz": gf.build_crz_4x4,
    "rzz": gf.build_ising_zz_4x4,
}
FIXED_TWO = {"cx": gf.build_cnot_4x4, "cz": gf.build_cz_4x4}
Pair = tuple[torch.Tensor, torch.Tensor]


def fused(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step on real and imaginary parts, layer by layer."""
    n, layers = spec.num_qubits, _layers(gates_of(spec))
    rows = []
    for terms in observables_of(spec):
        if any(letter != "Z" for _, letters in terms for letter, _ in letters):
            raise ValueError("The fastqml step reads strings of Z.")
        rows.append(
            sum(
                torch.as_tensor(f * index_of_bits(n, [q for _, q in letters], first_is_high=True))
                for f, letters in terms
            )
        )
    signs = torch.stack(rows).float().to(inputs.device)

    def run(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        re = torch.zeros((len(inputs), *[2] * n), device=inputs.device)
        re[(slice(None), *[0] * n)] = 1.0
        pair = (re, torch.zeros_like(re))
        for layer in layers:
            pair = _apply(pair, layer, inputs, weights, n)
        re, im = (part.reshape(len(inputs), -1) for part in pair)
        return (re.square() + im.square()) @ signs.T

    return torch_step(run, inputs, weights)


def _layers(gates: Sequence[Gate]) -> list[list[Gate]]:
    """Return runs of gates of one kind; one-qubit gates of a run act on different qubits."""
    layers: list[list[Gate]] = []
    for gate in gates:
        last = layers[-1] if layers else []
        alike = bool(last) and (last[0].name, last[0].batched) == (gate.name, gate.batched)
        busy = len(gate.qubits) == 1 and any(gate.qubits == other.qubits for other in last)
        if alike and not busy:
            last.append(gate)
        else:
            layers.append([gate])
    return layers


def _apply(pair: Pair, layer: list[Gate], inputs: torch.Tensor, weights: torch.Tensor, n: int) -> Pair:
    name, first = layer[0].name, layer[0]
    angles = [torch.as_tensor(gate.radians(inputs, weights)) for gate in layer if gate.radians is not None]
    if len(first.qubits) == 2:
        return _apply_two(pair, layer, angles, n)
    if first.batched:
        if name == "p" or len(layer) < n:
            for gate, angle in zip(layer, angles):
                apply: Callable[..., Pair] = getattr(
                    single, {"p": "apply_phase_shift"}.get(name, f"apply_{name}")
                )
                pair = apply(*pair, angle, gate.qubits[0], n)
            return pair
        ordered = sorted(range(n), key=lambda k: layer[k].qubits[0])
        table = torch.stack([angles[k] for k in ordered], dim=1)
        return gf.apply_per_batch_su2_chain(*pair, *EACH[name](table))
    ordered = sorted(range(len(layer)), key=lambda k: layer[k].qubits[0])
    if first.radians is None:
        builder = {"h": gf.build_h_gates, "x": gf.build_x_gates}[name]
        gates = builder(len(layer), pair[0].device, torch.float32)
    else:
        gates = ONE[name](torch.stack([angles[k] for k in ordered]).float())
    if len(layer) < n:
        gates = gf.identity_pad_gates(*gates, [layer[k].qubits[0] for k in ordered], n)
    return gf.apply_su2_layer(*pair, *gates)


def _apply_two(pair: Pair, layer: list[Gate], angles: list[torch.Tensor], n: int) -> Pair:
    name, edges = layer[0].name, [gate.qubits for gate in layer]
    if layer[0].batched:
        for angle, (a, b) in zip(angles, edges):
            pair = getattr(single, {"rzz": "apply_izz"}.get(name, f"apply_{name}"))(*pair, angle, a, b, n)
        return pair
    commute = gf.diagonal_commute if name in ("cz", "crz", "rzz") else gf.cry_commute
    device = pair[0].device
    for plan in gf.compute_two_qubit_plans(edges, n, device, torch.float32, commute_fn=commute):
        if name in FIXED_TWO:
            gates = FIXED_TWO[name](plan["n_pairs"], device, torch.float32)
        else:
            gates = TWO[name](torch.stack(angles).float().index_select(0, plan["k_idx"]))
        pair = gf.apply_disjoint_two_qubit_layer(*pair, plan, *gates)
    return pair
