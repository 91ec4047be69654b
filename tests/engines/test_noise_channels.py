"""Every kind of noise channel that is registered, everywhere: a new kind is tested without a line here."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import channel_cases as cases
import numpy as np
import pytest
import torch
from pydantic import Field
from qiskit import QuantumCircuit
from qiskit.quantum_info import Kraus, SparsePauliOp
from typer.testing import CliRunner

from qhybrid.circuits import CircuitSpec
from qhybrid.cli.main import app
from qhybrid.engines import make_engine
from qhybrid.engines.gates.pauli_transfer import transfer_matrix
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.engines.noise.aer_model import aer_error
from qhybrid.engines.noise.channels import gate_channel
from qhybrid.errors import ConfigError, EngineError
from qhybrid.noise import (
    CHANNELS,
    AmplitudeDamping,
    BitFlip,
    ChannelNoise,
    CoherentRotation,
    Depolarizing,
    NoiseChannel,
    NoiseProfile,
    PauliChannel,
    PhaseDamping,
    Rate,
    ThermalRelaxation,
    on_each,
)

F64 = torch.float64
KINDS = cases.all_examples()
NOTHING = torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64)
EVERY_KIND = pytest.mark.parametrize("channel", [one for _, one in KINDS], ids=[name for name, _ in KINDS])


class Squeezing(NoiseChannel):
    """A kind that is not in the package: generalised amplitude damping, Kraus operators alone."""

    kind: ClassVar[str] = "squeezing"
    gamma: Annotated[float, Rate()] = Field(ge=0, le=1)
    hot: float = Field(default=0.25, ge=0, le=1)

    def kraus(self, num_qubits):
        cold, warm = math.sqrt(1 - self.hot), math.sqrt(self.hot)
        kept, lost = math.sqrt(1 - self.gamma), math.sqrt(self.gamma)
        single = [
            cold * np.diag([1, kept]),
            cold * np.array([[0, lost], [0, 0]]),
            warm * np.diag([kept, 1]),
            warm * np.array([[0, 0], [lost, 0]]),
        ]
        return on_each(single, num_qubits)


def arguments(spec, rows=2):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(rows, spec.num_inputs, dtype=F64, generator=generator)
    return inputs, torch.randn(spec.num_weights, dtype=F64, generator=generator)


def noisy(*channels, **rates):
    return NoiseProfile(**rates).with_channels(*channels)


def check_everywhere(channel, tmp_path):
    """Exact = Aer = by hand, in value and gradient; saved, shown, restricted and scaled without loss."""
    profile = noisy(channel, readout_p01=0.03, readout_p10=0.01)
    spec = cases.small_spec()
    inputs, weights = (one.requires_grad_() for one in arguments(spec))
    found = []
    for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
        values = make_engine(kind, noise=profile, **options).expectations(spec, inputs, weights)
        found.append((values, *torch.autograd.grad(values.square().sum(), [inputs, weights])))
    for exact, aer in zip(*found):
        torch.testing.assert_close(exact, aer, atol=1e-9, rtol=0)
    circuit = cases.bound(spec, inputs[1].tolist(), weights.tolist())
    expected = cases.by_hand(circuit, cases.LABELS, profile)
    np.testing.assert_allclose(found[0][0][1].detach().numpy(), expected, atol=1e-10)
    ideal = make_engine("exact", noise=noisy(readout_p01=0.03, readout_p10=0.01))
    plain = ideal.expectations(spec, inputs, weights)
    assert (plain - found[0][0]).abs().max() > 1e-4
    silent = noisy(channel.scaled(0), readout_p01=0.03, readout_p10=0.01)
    torch.testing.assert_close(
        make_engine("exact", noise=silent).expectations(spec, inputs, weights), plain, atol=1e-12, rtol=0
    )
    file = profile.save(tmp_path / "profile.yaml")
    assert NoiseProfile.load(file).channels == profile.channels
    assert NoiseProfile.model_validate(profile.model_dump(mode="json")) == profile
    assert profile.fingerprint != ideal_fingerprint()
    assert profile.restrict([1, 0]).channels == profile.channels
    assert profile.scale(0).channels == ()
    assert profile.scale(1).channels == profile.channels
    shown = CliRunner().invoke(app, ["noise", "show", str(file)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert channel.kind.replace("_", " ") in shown.output
    for value in channel.rates.values():
        assert f"{value:.4g}" in shown.output


def ideal_fingerprint():
    return noisy(readout_p01=0.03, readout_p10=0.01).fingerprint


@EVERY_KIND
def test_every_kind_everywhere(channel, tmp_path):
    check_everywhere(channel, tmp_path)


def test_a_kind_of_others_works_without_a_line_in_the_package(tmp_path):
    with CHANNELS.temporarily("squeezing", Squeezing):
        check_everywhere(Squeezing(gamma=0.2), tmp_path)


@EVERY_KIND
def test_matrices_of_every_kind_are_its_kraus_operators(channel):
    """Transfer matrices and Aer's errors; the closed form that gradients need, where there is one."""
    for size in channel.sizes:
        kraus = [np.asarray(one) for one in channel.kraus(size)]
        total = sum(one.conj().T @ one for one in kraus)
        np.testing.assert_allclose(total, np.eye(2**size), atol=1e-12)
        expected = transfer_matrix(kraus)
        error = noisy(channel).gate_error("rx" if size == 1 else "cx", tuple(range(size)))
        np.testing.assert_allclose(gate_channel(error), expected, atol=1e-12)
        superop = aer_error(error).to_quantumchannel().data
        np.testing.assert_allclose(superop, sum(np.kron(one.conj(), one) for one in kraus), atol=1e-9)
        rates = {name: torch.tensor(value, dtype=F64) for name, value in channel.rates.items()}
        rows = channel.transfer(rates, size)
        if rows is not None:
            np.testing.assert_allclose([[float(v) for v in row] for row in rows], expected, atol=1e-12)


@EVERY_KIND
def test_gradients_of_every_rate_agree_with_differences(channel):
    """Or the kind is refused with what can be given instead."""
    profile, spec = noisy(channel, p_1q=0.02), cases.small_spec()
    inputs, weights = arguments(spec)
    names = {f"channels.0.{rate}": value for rate, value in channel.rates.items()}
    rates = {name: torch.tensor(value, dtype=F64, requires_grad=True) for name, value in names.items()}
    engine = make_engine("exact", noise=profile)
    if type(channel).transfer is NoiseChannel.transfer:
        with pytest.raises(EngineError, match="rates among p_1q"):
            engine.expectations(spec, inputs, weights, rates=rates)
        return
    values = engine.expectations(spec, inputs, weights, rates=rates)
    torch.testing.assert_close(values, engine.expectations(spec, inputs, weights), atol=1e-12, rtol=0)
    weighting = torch.arange(1.0, 1.0 + spec.num_observables, dtype=F64)
    slopes = torch.autograd.grad((values * weighting).sum(), list(rates.values()))
    for (name, middle), slope in zip(channel.rates.items(), slopes):
        step = 1e-5 * max(1.0, middle)
        if channel.rates.get("t1_us") and channel.rates.get("t2_us") == 2 * channel.rates["t1_us"]:
            continue  # one of the two sides of T2 = 2 T1 is no channel
        up, down = (
            make_engine("exact", noise=noisy(channel.with_rates({name: middle + move}), p_1q=0.02))
            .expectations(spec, inputs, weights)
            .mul(weighting)
            .sum()
            .item()
            for move in (step, -step)
        )
        assert slope.item() == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7), name


def test_kinds_with_kraus_operators_alone_are_refused_as_rates():
    engine = make_engine("exact", noise=noisy(Squeezing(gamma=0.2), BitFlip(p=0.1)))
    rates = {"channels.0.gamma": torch.tensor(0.1, dtype=F64)}
    with pytest.raises(EngineError, match=r"`squeezing` have Kraus.*`transfer` in Squeezing.*channels\.1\.p"):
        engine.expectations(cases.small_spec(), *arguments(cases.small_spec()), rates=rates)


@pytest.mark.parametrize("name", ["channels.2.p", "channels.0.q", "channels.p", "channels.0.probabilities.X"])
def test_unknown_rates_of_channels_are_named(name):
    engine = make_engine("exact", noise=noisy(BitFlip(p=0.1), AmplitudeDamping(gamma=0.1)))
    spec = cases.small_spec()
    with pytest.raises(EngineError, match=r"channels\.0\.p, channels\.1\.gamma"):
        engine.expectations(spec, *arguments(spec), rates={name: torch.tensor(0.1, dtype=F64)})


def test_rates_of_a_silent_channel_have_their_gradient_and_their_range():
    """After x: <Z> = -(1 - 2 p) for a bit flip, also where the profile says p = 0."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    engine = make_engine("exact", noise=noisy(BitFlip(p=0.0)))
    rate = torch.tensor(0.0, dtype=F64, requires_grad=True)
    found = engine.expectations(spec, *NOTHING, rates={"channels.0.p": rate})
    assert found.item() == pytest.approx(-1.0)
    (slope,) = torch.autograd.grad(found.sum(), rate)
    assert slope.item() == pytest.approx(2.0)
    with pytest.raises(ConfigError, match="less than or equal to 1"):
        engine.expectations(spec, *NOTHING, rates={"channels.0.p": torch.tensor(1.5, dtype=F64)})


def test_rates_of_channels_through_transforms():
    """After x and two flips: <Z> = -(1 - 2 p)(1 - 2 q); second derivative -4."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    engine = make_engine("exact", noise=noisy(BitFlip(p=0.1), BitFlip(p=0.2)))

    def value(p):
        rates = {"channels.0.p": p[0], "channels.1.p": p[1]}
        return engine.expectations(spec, *NOTHING, rates=rates)[0, 0]

    p = torch.tensor([0.1, 0.2], dtype=F64)
    assert value(p).item() == pytest.approx(-0.8 * 0.6)
    torch.testing.assert_close(torch.func.grad(value)(p), torch.tensor([1.2, 1.6], dtype=F64))
    expected = torch.tensor([[0.0, -4.0], [-4.0, 0.0]], dtype=F64)
    torch.testing.assert_close(torch.func.hessian(value)(p), expected)
    mapped = torch.func.vmap(value)(torch.stack([p, p / 2]))
    torch.testing.assert_close(mapped, torch.tensor([-0.48, -0.9 * 0.8], dtype=F64))


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_where_channels_act(kind):
    """Closed form: x on both qubits of |00>, then a flip of probability p takes -1 to -(1 - 2 p)."""
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.y(1)
    circuit.swap(0, 1)
    circuit.cz(0, 1)
    observables = [SparsePauliOp("IZ"), SparsePauliOp("ZI")]
    spec = CircuitSpec.from_circuit(circuit, [], [], observables)

    def values(**where):
        profile = noisy(ChannelNoise(channel=BitFlip(p=0.1), **where))
        options = {"method": "density_matrix"} if kind == "aer" else {}
        found = make_engine(kind, noise=profile, **options).expectations(spec, *NOTHING)[0]
        return [round(math.log(-v) / math.log(0.8), 9) for v in found.tolist()]  # flips by qubit

    assert values() == [3, 3]
    assert values(after="1q") == [1, 1]
    assert values(after="2q") == [2, 2]
    assert values(after=["x", "cz"]) == [1, 2]
    assert values(after="swap 1 0") == [1, 1]  # the same from both sides
    assert values(after="y 0") == [0, 0]
    assert values(after="cz", qubits=[1]) == [0, 1]
    assert values(after="1q", qubits=[0]) == [0, 1]  # the flip behind x moves with the swap
    assert values(after=["1q", "cz"], qubits=[1]) == [1, 1]


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_two_letters_follow_the_order_of_the_gates_qubits(kind):
    """A full flip of the first qubit: X on the control of cx, whichever qubit that is."""
    for control, target in ((0, 1), (1, 0)):
        circuit = QuantumCircuit(2)
        circuit.cx(control, target)
        observables = [SparsePauliOp("IZ"), SparsePauliOp("ZI")]
        spec = CircuitSpec.from_circuit(circuit, [], [], observables)
        for channel in (
            CoherentRotation(axis="xz", angle_rad=math.pi),
            PauliChannel(probabilities={"XI": 1.0}),
        ):
            options = {"method": "density_matrix"} if kind == "aer" else {}
            found = make_engine(kind, noise=noisy(channel), **options).expectations(spec, *NOTHING)[0]
            assert found[control].item() == pytest.approx(-1.0)
            assert found[target].item() == pytest.approx(1.0)


def test_scaling_laws():
    assert Depolarizing(p=0.4).scaled(3).p == 1.0
    assert Depolarizing(p=1.2).scaled(2).p == 1.2
    assert AmplitudeDamping(gamma=0.1).scaled(3).gamma == pytest.approx(0.3)
    assert PhaseDamping(lam=0.4).scaled(3).lam == 1.0
    assert BitFlip(p=0.3).scaled(2).p == 0.5
    assert BitFlip(p=0.9).scaled(2).p == 0.9
    assert CoherentRotation(axis="X", angle_rad=2.0).scaled(4).angle_rad == 8.0
    relaxed = ThermalRelaxation(ns=50, t1_us=100, t2_us=60).scaled(4)
    assert (relaxed.ns, relaxed.t1_us, relaxed.t2_us) == (50, 25, 15)
    pauli = PauliChannel(probabilities={"X": 0.1, "Z": 0.3})
    assert pauli.scaled(1.5).probabilities == pytest.approx({"X": 0.15, "Z": 0.45})
    assert pauli.scaled(10).probabilities == pytest.approx({"X": 1 / 6, "Z": 0.5})  # 2/3 in all
    with pytest.raises(ConfigError, match="at least 0"):
        pauli.scaled(-1)


def test_depolarizing_in_the_list_equals_the_profiles_own():
    spec = cases.small_spec()
    own = NoiseProfile.depolarizing(p_1q=0.03, p_2q=0.07)
    listed = noisy(
        ChannelNoise(channel=Depolarizing(p=0.03), after="1q"),
        ChannelNoise(channel=Depolarizing(p=0.07), after="2q"),
    )
    first, second = (
        make_engine("exact", noise=one).expectations(spec, *arguments(spec)) for one in (own, listed)
    )
    torch.testing.assert_close(first, second, atol=1e-12, rtol=0)


def test_zero_noise_extrapolation_scales_channels():
    """<Z> = -(1 - 2 p) after x is linear in p: two strengths continue to -1."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    profile = noisy(BitFlip(p=0.1))
    engine = mitigated_engine(
        "zne", lambda noise, _: make_engine("exact", noise=noise), profile, scales=(1.0, 2.0)
    )
    assert engine.expectations(spec, *NOTHING).item() == pytest.approx(-1.0)
    assert make_engine("exact", noise=profile).expectations(spec, *NOTHING).item() == pytest.approx(-0.8)


@pytest.mark.parametrize("kind", ["exact", "aer"])
@pytest.mark.parametrize("unit", ["ns", "dt"])
def test_channels_after_pauses(kind, unit):
    """`delay` is every pause, its length does not matter; other words leave pauses alone."""
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.delay(100, 0, unit=unit)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    options = {"method": "density_matrix"} if kind == "aer" else {}
    for after, expected in (("delay", -0.8), ("1q", -0.8), (["delay", "x"], -0.64)):
        profile = noisy(ChannelNoise(channel=BitFlip(p=0.1), after=after))
        found = make_engine(kind, noise=profile, **options).expectations(spec, *NOTHING)
        assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_channels_after_scheduled_pauses(kind):
    """Qubit 0 waits only for the gate of qubit 1 behind the barrier."""
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.x(1)
    circuit.x(1)
    circuit.barrier()
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("IZ"), SparsePauliOp("ZI")])
    options = {"method": "density_matrix"} if kind == "aer" else {}
    flips = {"kind": "bit_flip", "p": 0.1, "after": "delay"}
    engine = make_engine(
        kind, noise=NoiseProfile(idle="scheduled", gate_1q_ns=50, channels=[flips]), **options
    )
    # As late as possible: qubit 0 begins last and never waits.
    assert engine.expectations(spec, *NOTHING)[0].tolist() == pytest.approx([-1.0, 1.0])
    circuit.x(1)
    again = CircuitSpec.from_circuit(circuit, [], [], spec.observables)
    assert engine.expectations(again, *NOTHING)[0].tolist() == pytest.approx([-0.8, -1.0])


def test_identities_are_gates_where_a_channel_lists_them():
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.id(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    for after, expected in (("x", -0.8), ("id", -0.8), (["id", "x"], -0.64)):
        profile = noisy(ChannelNoise(channel=BitFlip(p=0.1), after=after))
        for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
            found = make_engine(kind, noise=profile, **options).expectations(spec, *NOTHING)
            assert found.item() == pytest.approx(expected)


def test_channels_of_a_device_follow_its_routed_circuits():
    """On fake_manila: the exact values equal Aer's, and the channel on the device's qubits is felt."""
    spec = cases.small_spec()
    inputs, weights = arguments(spec)
    device = NoiseProfile.from_backend("fake_manila")
    damping = ChannelNoise(channel=AmplitudeDamping(gamma=0.05), after=["sx", "cx"])
    profile = device.with_channels(damping, CoherentRotation(axis="zx", angle_rad=0.1))
    made = {"backend": "fake_manila", "trials": 1}
    exact = make_engine("routed", noise=profile, **made).expectations(spec, inputs, weights)
    aer = make_engine("routed", noise=profile, engine="aer", options={"method": "density_matrix"}, **made)
    torch.testing.assert_close(exact, aer.expectations(spec, inputs, weights), atol=1e-8, rtol=0)
    without = make_engine("routed", noise=device, **made).expectations(spec, inputs, weights)
    assert (exact - without).abs().max() > 1e-3


def test_shots_of_aer_include_channels():
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("Z"), SparsePauliOp("X")])
    profile = noisy(AmplitudeDamping(gamma=0.3))
    exact = make_engine("exact", noise=profile).expectations(spec, *NOTHING)
    drawn = make_engine("aer", noise=profile, shots=20000, seed=1).expectations(spec, *NOTHING)
    assert (exact - drawn).abs().max() < 5 / 20000**0.5
    assert exact[0].tolist() == pytest.approx([-0.4, 0.3])  # reading X takes a damped h


@pytest.mark.parametrize(("channel", "p"), [(BitFlip(p=0.008667), 0.05), (PhaseDamping(lam=0.077667), 0.1)])
def test_aer_draws_pauli_errors_as_such(channel, p):
    """Aer turns errors with Kraus operators into others, and fails for some: mixtures need none."""
    profile = NoiseProfile.depolarizing(p_2q=p).with_channels(
        channel, CoherentRotation(axis="ZX", angle_rad=0.2)
    )
    error = aer_error(profile.gate_error("cx", (0, 1)))
    assert not any(circuit.count_ops().get("kraus") for circuit in error.circuits)
    expected = gate_channel(profile.gate_error("cx", (0, 1)))
    np.testing.assert_allclose(transfer_matrix(Kraus(error).data), expected, atol=1e-9)
    circuit = QuantumCircuit(2)
    circuit.ry(0.4, 0)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("ZZ"), SparsePauliOp("IX")])
    exact = make_engine("exact", noise=profile).expectations(spec, *NOTHING)
    drawn = make_engine("aer", noise=profile, trajectories=4000, seed=1).expectations(spec, *NOTHING)
    assert (exact - drawn).abs().max() < 5 / 4000**0.5


def test_bad_operators_of_others_are_refused():
    class Lossy(Squeezing):
        kind: ClassVar[str] = "lossy"

        def kraus(self, num_qubits):
            return [0.9 * one for one in super().kraus(num_qubits)]

    class Wide(Squeezing):
        kind: ClassVar[str] = "wide"

        def kraus(self, num_qubits):
            return [np.eye(4)]

    for channel, message in ((Lossy(gamma=0.1), "preserve the trace.*1.90e-01"), (Wide(gamma=0.1), "shape")):
        for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
            engine = make_engine(kind, noise=noisy(channel), **options)
            with pytest.raises(ConfigError, match=message):
                engine.expectations(cases.small_spec(), *arguments(cases.small_spec()))


def test_listed_gates_that_do_not_exist_or_fit_are_refused():
    spec = cases.small_spec()
    for site, message in (
        (ChannelNoise(channel=BitFlip(p=0.1), after="cnot"), "lists gate `cnot`.*`cx`"),
        (
            ChannelNoise(channel=CoherentRotation(axis="ZZ", angle_rad=0.1), after="h"),
            "acts on 2 qubits.*`h`",
        ),
    ):
        with pytest.raises(EngineError, match=message):
            make_engine("exact", noise=noisy(site)).expectations(spec, *arguments(spec))
