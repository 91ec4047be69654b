"""Files that define circuits: what circuits/NAME.yaml may say, and its content as plain values."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from qhybrid.circuits.library import CIRCUITS
from qhybrid.circuits.program import Format, qasm_format
from qhybrid.config import StrictModel, read_yaml, validated
from qhybrid.errors import ConfigError
from qhybrid.workspace import definition_files

FOLDER = "circuits"
SUFFIXES = (".qasm", ".qpy")
Texts = tuple[str, ...]


def _one_or_several(given: Any) -> Any:
    """Take one text for a list of it: `inputs: x` is `inputs: [x]`."""
    return (given,) if isinstance(given, str) else given


Names = Annotated[Texts, BeforeValidator(_one_or_several)]
"""What a file may write as one text or as a list."""


class CircuitDefinition(StrictModel):
    """Content of `circuits/NAME.yaml`.

    Attributes:
        builder: Name of a registered circuit.
        arguments: Arguments of the builder.
        file: In place of a builder: an OpenQASM 3, OpenQASM 2 (.qasm) or QPY file (.qpy), relative to this
            one.
        inputs: Parameters of the file that receive data, in order; see `parameter_names`.
        weights: Parameters of the file that are trained, in order.
        observables: Read-outs such as `Z0` or `0.5 * Z0 Z1`; absent: the builder's own.
        description: One sentence for lists.
        source: Where the circuit comes from.
    """

    builder: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    file: str | None = None
    inputs: Names = ()
    weights: Names = ()
    observables: Names | None = None
    description: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _is_one_kind(self) -> CircuitDefinition:
        given = self.model_fields_set
        if (self.builder is None) == (self.file is None):
            found = "neither" if self.builder is None else "both"
            raise ValueError(f"one of the keys `builder` and `file` must be given, but {found} is")
        others = given & ({"arguments"} if self.builder is None else {"inputs", "weights"})
        if others:
            kind, own = ("file", "`builder`") if self.builder is None else ("builder", "`file`")
            raise ValueError(f"`{kind}` takes no key `{min(others)}`, which belongs to {own}")
        if self.file is not None and not self.observables:
            raise ValueError("`file` needs the key `observables`, such as [Z0, Z1]")
        if self.file is not None and Path(self.file).suffix not in SUFFIXES:
            raise ValueError(f"`file` must end in .qasm or .qpy, but is {self.file}")
        return self


class ResolvedBuilder(StrictModel):
    """A circuit of a builder, as `resolve_circuit` returns it."""

    name: str
    builder: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    observables: Texts | None = None


class ResolvedFile(StrictModel):
    """A circuit of a file, as `resolve_circuit` returns it; `content` is the text, or QPY in base64."""

    name: str
    format: Format
    content: str
    inputs: Texts = ()
    weights: Texts = ()
    observables: Annotated[Texts, Field(min_length=1)]


Resolved = ResolvedBuilder | ResolvedFile


def definition_file(reference: str | Path) -> Path | None:
    """Return the definition that a name in circuits/ or a path stands for; None for another name."""
    text = str(reference)
    return Path(text) if text.endswith(".yaml") else definition_files(FOLDER).get(text)


def read_definition(file: Path) -> CircuitDefinition:
    """Read a definition file.

    Raises:
        ConfigError: If it cannot be read, or has a key that it must not have.
    """
    return validated(CircuitDefinition, read_yaml(file), str(file))


def read_named_definition(file: Path) -> CircuitDefinition:
    """Read a definition that is found by its name, which no other builder may have.

    Raises:
        ConfigError: If it is wrong, or has the name of a builder that it does not use.
    """
    definition = read_definition(file)
    if file.stem in CIRCUITS and definition.builder != file.stem:
        raise ConfigError(
            f"{file}: has the name of builder `{file.stem}`, but is another circuit. Fix: rename the file."
        )
    return definition


def read_program_file(file: Path, definition: CircuitDefinition) -> ResolvedFile:
    """Read the OpenQASM or QPY file of a definition, whole.

    Raises:
        ConfigError: If it cannot be read.
    """
    program = file.parent / str(definition.file)
    binary = program.suffix == ".qpy"
    try:
        data = program.read_bytes()
        text = base64.b64encode(data).decode("ascii") if binary else data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{file}: key `file`: {program} cannot be read ({reason}). Fix: put the file beside {file.name}, "
            "or correct its name."
        ) from error
    return ResolvedFile(
        name=file.stem,
        format="qpy" if binary else qasm_format(text),
        content=text,
        inputs=definition.inputs,
        weights=definition.weights,
        observables=definition.observables or (),
    )
