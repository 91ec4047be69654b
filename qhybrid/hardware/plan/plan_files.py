"""A plan on disk: plan.json, samples, circuits as they are sent (QPY), the ledger and the calibration."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from pathlib import Path
from typing import Any

from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.delays import without_delays
from qhybrid.circuits.modifiers import as_matrices
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.config import validated
from qhybrid.engines.shots.strings import as_observable, measured_strings
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.fractional import FoldedAngles, LinearForm, folded_names
from qhybrid.hardware.circuits.merging import AngleMap, merge_runs
from qhybrid.hardware.circuits.preparation import place_noise, z_strings
from qhybrid.hardware.circuits.prepared import Copy, PreparedCircuit, Variant
from qhybrid.hardware.model.kept_files import FILES
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile
from qhybrid.plugins import check_plugins, words
from qhybrid.workspace import atomic_path, whole_files, write_text

FORMAT = 1
PLAN_FILE = "plan.json"
CALIBRATION_FILE = "calibration.yaml"
CIRCUITS = "circuits"
CORE: dict[str, Any] = {"plan": str, "settings": dict, "layers": list, "samples": list, "rounds": list}
CORE |= {"circuits": dict, "qpu_seconds": int | float}
"""Keys of plan.json that every plan has, and their types."""
Observables = list[list[tuple[str, list[int], float]]]


def write_plan(folder: Path, content: dict[str, Any]) -> None:
    """Write plan.json."""
    write_text(folder / PLAN_FILE, json.dumps(content, indent=2) + "\n")


def read_plan(folder: Path) -> dict[str, Any]:
    """Read plan.json.

    Raises:
        HardwareError: If the folder holds no plan, or one of another version.
    """
    try:
        content: dict[str, Any] = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        found = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HardwareError(
            f"{folder} must be the folder of a plan, but {PLAN_FILE} cannot be read ({error}). Fix: "
            f"{_remedy(folder)}"
        ) from error
    if found != FORMAT:
        raise HardwareError(
            f"{folder / PLAN_FILE} must have format {FORMAT}, but has {found}. Fix: plan again."
        )
    for key, kind in CORE.items():
        if not isinstance(content.get(key), kind):
            raise HardwareError(
                f"{folder / PLAN_FILE} must say of the plan's `{key}`, but is damaged there. Fix: copy the "
                "plan's folder again, or plan again; jobs that were sent have the plan's name as a tag."
            )
    return content


def _remedy(folder: Path) -> str:
    """Return what is to be done about a folder without plan.json, which may be what is left of a plan."""
    if not (folder / CIRCUITS).is_dir():
        return "give the folder that `qhybrid hardware plan` printed."
    return (
        f"put {PLAN_FILE} back from a copy of the folder. What is here is what is left of a plan: its jobs "
        f"have the tag qhybrid-{folder.name} in the provider's pages, where they can be stopped, and a new "
        "plan is paid for anew."
    )


def home_of(folder: Path) -> str:
    """Return what tells a plan's folder from a copy of it: a hash of its place on this machine."""
    place = f"{platform.node()} {folder.resolve()}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def check_plan_plugins(content: dict[str, Any], folder: Path) -> None:
    """Check that the plugins are loaded whose names a plan uses.

    Raises:
        PluginError: If one is missing.
    """
    used = words({key: value for key, value in content.items() if key not in ("plugins", FILES)})
    check_plugins(content.get("plugins", ()), str(folder / PLAN_FILE), used)


def settings_of(content: dict[str, Any], folder: Path) -> HardwareSettings:
    """Return the settings of a plan."""
    return validated(HardwareSettings, content["settings"], str(folder / PLAN_FILE))


def save_circuit(folder: Path, bound: CircuitSpec, circuit: PreparedCircuit) -> None:
    """Write a circuit as the layer has it and as it is mapped: nothing is routed twice."""
    facts: dict[str, Any] = {
        "name": circuit.name,
        "inputs": [parameter.name for parameter in bound.input_params],
        "observables": _listed(bound),
        "mapped_observables": _mapped(circuit),
        "physical": [list(copy.physical) for copy in circuit.copies],
        "variants": [
            [list(one.group), one.fold, *([one.noise] if one.noise != 1 else [])] for one in circuit.variants
        ],
        "device_qubits": circuit.device_qubits,
        "seconds": circuit.seconds,
    }
    if isinstance(circuit.angle_map, FoldedAngles):
        facts["folded"] = [[list(map(list, one.factors)), one.offset] for one in circuit.angle_map.forms]
    circuits = [
        without_delays(bound.circuit),  # QPY keeps no units of them
        *(spec.circuit for copy in circuit.copies for spec in copy.specs),
    ]
    buffer = io.BytesIO()
    qpy.dump(circuits, buffer)
    (folder / CIRCUITS).mkdir(exist_ok=True)
    with atomic_path(folder / CIRCUITS / f"{circuit.key}.qpy") as temporary:
        temporary.write_bytes(buffer.getvalue())
    write_text(folder / CIRCUITS / f"{circuit.key}.json", json.dumps(facts) + "\n")


def load_circuits(
    folder: Path, settings: HardwareSettings, noise: NoiseProfile | None
) -> tuple[dict[str, CircuitSpec], dict[str, PreparedCircuit]]:
    """Read all circuits of a plan: as the layers have them, and as they are sent.

    Raises:
        HardwareError: If a file is missing or damaged.
    """
    bound, prepared = {}, {}
    for file in whole_files(folder / CIRCUITS, ".json"):
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            with file.with_suffix(".qpy").open("rb") as handle:
                circuits = qpy.load(handle)
            bound[file.stem] = _bound(facts, circuits[0])
            prepared[file.stem] = _prepared(file.stem, facts, circuits, bound[file.stem], settings, noise)
        except Exception as error:  # whatever Qiskit makes of bytes that are no circuit
            raise HardwareError(
                f"{file} and its .qpy must hold a circuit of the plan, but cannot be read ({error}). "
                "Fix: copy the plan's folder again, or make a new plan, which is paid for anew."
            ) from error
    return bound, prepared


def _bound(facts: dict[str, Any], circuit: QuantumCircuit) -> CircuitSpec:
    by_name = {parameter.name: parameter for parameter in circuit.parameters}
    inputs = [by_name.get(name) or Parameter(name) for name in facts["inputs"]]
    observables = _observables(facts["observables"], circuit)
    # Plans of earlier versions hold modified operations, which were mapped as matrices.
    return CircuitSpec(facts["name"], as_matrices(circuit), tuple(inputs), (), observables)


def _prepared(
    key: str,
    facts: dict[str, Any],
    circuits: list[QuantumCircuit],
    bound: CircuitSpec,
    settings: HardwareSettings,
    noise: NoiseProfile | None,
) -> PreparedCircuit:
    merged, inner = merge_runs(bound)
    names = [parameter.name for parameter in merged.input_params]
    angle_map: AngleMap | FoldedAngles = inner
    if facts.get("folded"):
        forms = [LinearForm(tuple((i, f) for i, f in factors), o) for factors, o in facts["folded"]]
        angle_map = FoldedAngles(inner, forms)
        names += folded_names(forms)
    mapped = _observables(facts["mapped_observables"], circuits[1])
    strings = measured_strings(mapped, circuits[1].num_qubits)
    variants = tuple(Variant(tuple(group), *factors) for group, *factors in facts["variants"])
    copies = []
    for index, place in enumerate(facts["physical"]):
        own = circuits[1 + index * len(variants) : 1 + (index + 1) * len(variants)]
        specs = tuple(
            _variant_spec(
                facts["name"], circuit, names, z_strings(strings, variant, settings.mitigation.readout)
            )
            for circuit, variant in zip(own, variants, strict=True)
        )
        copies.append(Copy(tuple(place), specs, place_noise(noise, place, settings.mitigation)))
    return PreparedCircuit(
        key,
        facts["name"],
        angle_map,
        strings,
        variants,
        tuple(copies),
        facts["device_qubits"],
        facts["seconds"],
    )


def _variant_spec(name: str, circuit: QuantumCircuit, names: list[str], strings: Any) -> CircuitSpec:
    by_name = {parameter.name: parameter for parameter in circuit.parameters}
    inputs = tuple(by_name.get(one) or Parameter(one) for one in names)
    observables = tuple(as_observable(string, circuit.num_qubits) for string in strings)
    return CircuitSpec(name, circuit, inputs, (), observables)


def _listed(spec: CircuitSpec) -> Observables:
    return [
        [
            (letters, list(qubits), float(complex(factor).real))
            for letters, qubits, factor in one.to_sparse_list()
        ]
        for one in spec.observables
    ]


def _mapped(circuit: PreparedCircuit) -> Observables:
    """Return observables on the mapped circuit, from its strings and coefficients."""
    strings = circuit.strings
    result: Observables = []
    for row, offset in zip(strings.coefficients, strings.offsets):
        terms: list[tuple[str, list[int], float]] = [("", [], float(offset))] if offset else []
        for string, factor in zip(strings.strings, row):
            if factor:
                terms.append(("".join("IXYZ"[p] for _, p in string), [q for q, _ in string], float(factor)))
        result.append(terms)
    return result


def _observables(listed: Observables, circuit: QuantumCircuit) -> tuple[Any, ...]:
    return tuple(
        SparsePauliOp.from_sparse_list([tuple(term) for term in terms], num_qubits=circuit.num_qubits)
        for terms in listed
    )


def circuit_names(content: dict[str, Any]) -> list[str]:
    """Return what tables call the circuits of a plan; with their layers where several have one name.

    Args:
        content: The plan's plan.json; plans of earlier versions do not name the layers of a circuit.
    """
    circuits = list(content["circuits"].values())
    names = [str(one["name"]) for one in circuits]
    layers = [", ".join(one.get("layers", ())) for one in circuits]
    return [
        f"{name} ({where})" if where and names.count(name) > 1 else name
        for name, where in zip(names, layers, strict=True)
    ]
