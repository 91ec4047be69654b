"""What all sections of a recipe share: unknown keys are errors, new keys leave old recipes as they are."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializerFunctionWrapHandler, model_serializer


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, but is {str(value).lower()}")  # noqa: TRY004 - pydantic reports it
    return value


NoSwitch = BeforeValidator(_no_switch)
"""For numbers: true and false are not 1 and 0."""


class StrictModel(BaseModel):
    """A configuration section: immutable, unknown keys are errors, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


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
