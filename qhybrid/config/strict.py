"""What all sections of a recipe share: unknown keys are errors, new keys leave old recipes as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, but is {str(value).lower()}")  # noqa: TRY004 - pydantic reports it
    return value


NoSwitch = BeforeValidator(_no_switch)
"""For numbers: true and false are not 1 and 0."""


def _kinds_in(annotation: Any) -> set[Any]:
    """Return all types that a key may have, those within lists and mappings too; `bool` for a literal one."""
    inner = get_args(annotation)
    if not inner:
        return {bool if isinstance(annotation, bool) else annotation}
    return set().union(*map(_kinds_in, inner))


class StrictModel(BaseModel):
    """A section: immutable; unknown keys, NaN, infinity, and true or false for numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        inner = value.values() if isinstance(value, Mapping) else value
        several = inner if isinstance(inner, Iterable) and not isinstance(inner, str | bytes) else (inner,)
        if any(isinstance(one, bool) for one in several):
            kinds = _kinds_in(cls.model_fields[str(info.field_name)].annotation)
            if kinds & {int, float} and not kinds & {bool, Any, object}:
                if str in kinds:
                    raise ValueError("YAML reads this as true or false: put text in quotes")
                for one in several:
                    _no_switch(one)
        return value


class GrowingSection(StrictModel):
    """A section whose later keys are written only where they are used.

    Recipes and hashes of what existed before such a key stay what they were.

    Attributes:
        later_keys: Keys that are left out while they have their default.
    """

    later_keys: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _used_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unused = {key for key in self.later_keys if getattr(self, key) == fields[key].get_default()}
        return {key: value for key, value in dump(self).items() if key not in unused}
