"""Learning the noise of layers of gates with IBM's noise learner, and putting such errors in.

Circuits are divided into layers by the client's own passes, so that the layers that are learned are those
of the circuits as they are executed: twirled over the Pauli group, qubits that wait included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import BoxOp, CircuitInstruction, QuantumRegister
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import PauliLindbladMap
from qiskit.transpiler import Target
from qiskit_ibm_runtime import Executor
from qiskit_ibm_runtime.exceptions import IBMInputValueError
from qiskit_ibm_runtime.executor_sampler.finalize_options import finalize_sampler_options
from qiskit_ibm_runtime.noise_learner_v3 import NoiseLearnerV3
from qiskit_ibm_runtime.noise_learner_v3.validation import validate_instruction
from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options, SamplerOptions
from qiskit_ibm_runtime.options_models.converters import sampler_option_to_executor_options
from qiskit_ibm_runtime.options_models.executor import ExecutorOptions
from qiskit_ibm_runtime.quantum_program import QuantumProgram
from samplomatic import build
from samplomatic.annotations import InjectNoise, Twirl
from samplomatic.quantum_program import SamplexItem
from samplomatic.transpiler import generate_boxing_pass_manager
from samplomatic.utils import get_annotation, undress_box

from qhybrid.devices import Device
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.noise_layers import LearnedNoise, NoiseLayer, NoiseWork
from qhybrid.hardware.circuits.preparation import PULSE, READOUT_SECONDS, TWIRL_PULSES, duration
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.services.interface import Package
from qhybrid.hardware.settings import HardwareSettings, Mitigation
from qhybrid.noise.sections import SYMMETRIC

BASES = 9
"""Circuits that measure all strings on neighbours (docstring of the client's options)."""


def noise_work(circuits: Sequence[PreparedCircuit], device: Device, settings: HardwareSettings) -> NoiseWork:
    """Return the distinct layers of circuits, and what learning their noise costs.

    Args:
        circuits: What is executed.
        device: The device.
        settings: Delay between executions, mitigation and prices.

    Raises:
        HardwareError: If a layer cannot be learned.
    """
    found: dict[Any, NoiseLayer] = {}
    passes = _passes(settings.mitigation, True)
    for prepared in circuits:
        for index, variant in enumerate(prepared.variants):
            if variant.noise == 1:
                boxed = passes.run(prepared.measured(index))
                found |= {layer.key: layer for layer, _ in _layers_of(boxed, device)}
    if not found:
        return NoiseWork((), 0, 0.0)
    learning = settings.mitigation.learning
    each = BASES * learning.randomizations * learning.shots
    layers = tuple(found.values())
    try:
        learning_instructions(layers, device.target)
    except IBMInputValueError as error:
        raise HardwareError(
            f"All layers of the circuits must be learnable for mitigation `pea` on {device.name}, but the "
            f"client says: {error} Fix: another mitigation; nothing was planned."
        ) from error
    executions = each * len(learning.depths) * len(layers)
    lengths = sum(_seconds(layer, depth, device) for layer in layers for depth in learning.depths)
    seconds = settings.price.overhead_s + executions * settings.delay_seconds + each * lengths
    return NoiseWork(layers, executions, seconds)


def check_noise_work(
    circuits: Sequence[PreparedCircuit], work: NoiseWork, settings: HardwareSettings
) -> None:
    """Check that what is learned are the layers of circuits, as the client that is installed divides them.

    Args:
        circuits: What is executed once it is learned.
        work: What is learned.
        settings: Mitigation.

    Raises:
        HardwareError: If a layer is missing.
    """
    known, passes = {layer.key for layer in work.layers}, _passes(settings.mitigation, True)
    raised = [(one, index) for one in circuits for index, v in enumerate(one.variants) if v.noise != 1]
    for prepared, index in raised:
        for layer, _ in _layers_of(passes.run(prepared.measured(index)), None):
            if layer.key not in known:
                raise HardwareError(
                    f"All layers of circuit `{prepared.name}` must be learned, but {list(layer.gates)} on "
                    f"qubits {list(layer.qubits)} is not among those of the plan: its file of layers is "
                    "another plan's, or another version of the client divides circuits otherwise. Fix: "
                    "copy the plan's folder again, or plan again; nothing was sent."
                )


def _seconds(layer: NoiseLayer, pairs: int, device: Device) -> float:
    """Return the length of a learning circuit: twirled layers one after the other, and the read-out."""
    pulses = max(TWIRL_PULSES * duration(device, PULSE, (qubit,)) for qubit in layer.qubits)
    gates = max((duration(device, name, qubits) for name, qubits in layer.gates), default=0.0)
    reads = max(duration(device, "measure", (qubit,)) for qubit in layer.qubits) or READOUT_SECONDS
    return 2 * pairs * (pulses + gates) + pulses + reads


def _passes(mitigation: Mitigation, injects: bool) -> Any:
    """Return the client's division of circuits into layers, as its sampler makes it."""
    twirling = SamplerOptions().twirling
    return generate_boxing_pass_manager(
        enable_gates=mitigation.gate_twirling,
        enable_measures=mitigation.measure_twirling,
        twirling_strategy=twirling.strategy.replace("-", "_"),
        twirling_group=twirling.group,
        inject_noise_site="after",
        inject_noise_targets="gates" if injects else "none",
        inject_noise_strategy="uniform_modification" if injects else "no_modification",
    )


def _layers_of(boxed: QuantumCircuit, device: Device | None) -> Iterable[tuple[NoiseLayer, str]]:
    """Yield the layers of a divided circuit in which noise can be raised, with the client's names of them."""
    for one in boxed.data:
        if one.operation.name != "box" or (named := get_annotation(one.operation, InjectNoise)) is None:
            continue
        body = undress_box(one.operation).body
        place = {
            inner: boxed.find_bit(outer).index for inner, outer in zip(body.qubits, one.qubits, strict=True)
        }
        gates = []
        for gate in body.data:
            if gate.operation.name == "barrier":
                continue
            first, second = (place[qubit] for qubit in gate.qubits)
            name = gate.operation.name
            ordered = (min(first, second), max(first, second)) if name in SYMMETRIC else (first, second)
            gates.append((name, ordered))
        qubits = tuple(sorted(place.values()))
        pairs = () if device is None else _neighbours(qubits, device)
        yield NoiseLayer(qubits, tuple(sorted(gates)), pairs), named.ref


def _neighbours(qubits: tuple[int, ...], device: Device) -> tuple[tuple[int, int], ...]:
    inside = set(qubits)
    every = {(min(one.qubits), max(one.qubits)) for one in device.two_qubit_gates}
    return tuple(sorted(pair for pair in every if inside.issuperset(pair)))


def learning_instructions(layers: Sequence[NoiseLayer], target: Target) -> list[CircuitInstruction]:
    """Return layers as the client's noise learner takes them.

    Args:
        layers: The layers.
        target: The device.

    Raises:
        IBMInputValueError: If the learner does not take one.
    """
    register = QuantumRegister(target.num_qubits, "q")
    found = []
    for layer in layers:
        place = {qubit: index for index, qubit in enumerate(layer.qubits)}
        body = QuantumCircuit(len(layer.qubits))
        for name, qubits in layer.gates:
            # A gate that is the same from both sides may be listed for one order of its qubits alone.
            written = qubits if target.instruction_supported(name, qubits) else qubits[::-1]
            getattr(body, name)(*(place[qubit] for qubit in written))
        box = BoxOp(body, annotations=[Twirl()])
        # Ascending: what comes back is numbered in the device's order of the qubits.
        found.append(CircuitInstruction(box, [register[qubit] for qubit in layer.qubits]))
        validate_instruction(found[-1], target)
    return found


def learning_sender(
    package: Package, mode: Any, backend: Any, settings: HardwareSettings
) -> Callable[[], Any]:
    """Return what sends a job that learns the noise of layers.

    Args:
        package: The job.
        mode: The client's mode of execution.
        backend: The device as a Qiskit BackendV2.
        settings: Numbers of the learning.

    Raises:
        IBMInputValueError: If the learner does not take a layer.
    """
    assert package.learns is not None
    learner = NoiseLearnerV3(mode, _learning_options(package, settings))
    layers = learning_instructions(package.learns.layers, backend.target)
    return lambda: learner.run(layers)


def _learning_options(package: Package, settings: HardwareSettings) -> NoiseLearnerV3Options:
    learning = settings.mitigation.learning
    options = NoiseLearnerV3Options(
        shots_per_randomization=learning.shots,
        num_randomizations=learning.randomizations,
        layer_pair_depths=list(learning.depths),
    )
    options.environment.job_tags = list(package.tags)
    options.environment.private = settings.private
    options.max_execution_time = package.max_execution_seconds
    if settings.rep_delay_us is not None:
        options.execution.rep_delay = settings.rep_delay_us * 1e-6
    return options


def read_noise(raw: str) -> list[tuple[int, Any, Any]]:
    """Return what the noise learner found: for every layer its number of qubits, strings and rates."""
    from qiskit_ibm_runtime.decoders.noise_learner_v3.decoder import NoiseLearnerV3ResultDecoder

    found = []
    for one in NoiseLearnerV3ResultDecoder.decode(raw).data:
        known = one.to_pauli_lindblad_map()
        terms = [(letters, tuple(places)) for letters, places, _ in known.to_sparse_list()]
        found.append((known.num_qubits, terms, known.rates))
    return found


def injecting_sender(
    package: Package,
    pubs: Sequence[tuple[QuantumCircuit, Any, float]],
    options: SamplerOptions,
    mode: Any,
    mitigation: Mitigation,
) -> Callable[[], Any]:
    """Return what sends a job that executes circuits at raised noise.

    Args:
        package: The job.
        pubs: Measured circuits, their parameter sets as for the sampler, and the factor of the noise.
        options: Options of the sampler.
        mode: The client's mode of execution.
        mitigation: Division of the shots.

    Raises:
        HardwareError: If the noise of a layer is not known.
    """
    noise = package.noise or LearnedNoise(())
    program, final = injecting_program(pubs, noise, options, mitigation, package.shots)
    executor = Executor(mode=mode, options=final)
    return lambda: executor.run(program)


def injecting_program(
    pubs: Sequence[tuple[QuantumCircuit, Any, float]],
    noise: LearnedNoise,
    options: SamplerOptions,
    mitigation: Mitigation,
    shots: int,
) -> tuple[QuantumProgram, ExecutorOptions]:
    """Return a program that executes circuits at raised noise; its result reads as that of the sampler.

    Args:
        pubs: Measured circuits, their parameter sets as for the sampler, and the factor of the noise.
        noise: The noise of their layers.
        options: Options of the sampler.
        mitigation: Division of the shots.
        shots: Executions of every parameter set.

    Raises:
        HardwareError: If the noise of a layer is not known.
    """
    final = finalize_sampler_options(options)
    divided = mitigation.division(shots)
    versions, each = divided if divided is not None else (1, shots)
    given = [SamplerPub.coerce((circuit, values), shots) for circuit, values, _ in pubs]
    items = [_item(pub, factor, noise, mitigation, versions) for pub, (_, _, factor) in zip(given, pubs)]
    facts = {
        "version": "v0.1",
        "twirling": True,
        "meas_type": final.execution.meas_type,
        "shots": each,
        "circuits_metadata": [pub.circuit.metadata for pub in given],
        "options": final.model_dump(),
    }
    program = QuantumProgram(
        shots=each,
        items=items,
        passthrough_data={"post_processor": facts},
        meas_level=final.execution.meas_type,
    )
    program._semantic_role = "sampler_v2"
    return program, sampler_option_to_executor_options(final)


def _item(
    pub: SamplerPub, factor: float, noise: LearnedNoise, mitigation: Mitigation, versions: int
) -> SamplexItem:
    boxed = _passes(mitigation, factor != 1).run(pub.circuit)
    template, samplex = build(boxed)
    arguments: dict[str, Any] = {}
    shape: tuple[int, ...] = ()
    if pub.parameter_values.num_parameters > 0:
        values = pub.parameter_values.as_array(pub.circuit.parameters)
        arguments["parameter_values"], shape = values, values.shape[:-1]
    maps = {ref: _map_of(layer, noise, pub.circuit.name) for layer, ref in _layers_of(boxed, None)}
    if maps:
        arguments["pauli_lindblad_maps"] = maps
        arguments |= {f"noise_scales.{ref}": np.array(factor - 1) for ref in maps}
    return SamplexItem(
        circuit=template, samplex=samplex, samplex_arguments=arguments, shape=(versions, *shape)
    )


def _map_of(layer: NoiseLayer, noise: LearnedNoise, name: str) -> PauliLindbladMap:
    known = noise.of(layer)
    if known is None:
        raise HardwareError(
            f"The noise of all layers of circuit `{name}` must be known, but that of {list(layer.gates)} on "
            f"qubits {list(layer.qubits)} is not: another version of the client divides circuits otherwise. "
            "Fix: the version that the plan was made with, or plan again."
        )
    terms = [(letters, places, rate) for (letters, places), rate in zip(known.terms, known.rates)]
    return PauliLindbladMap.from_sparse_list(terms, num_qubits=len(layer.qubits))
