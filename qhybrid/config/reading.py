"""Read configuration files safely, and explain what is wrong with them in terms of files and keys."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from qhybrid.config.sections import Recipe
from qhybrid.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)


DEEPEST = 100
"""Levels of mappings and lists in each other. libyaml's own recursion ends the process on thousands."""
_WORDS = frozenset({"on", "off", "yes", "no"})
"""Keys that YAML 1.1 takes for true and false, as `off` of a bottleneck of experts or a class called `no`."""


class _UniqueKeys(yaml.constructor.SafeConstructor):
    """Safe YAML that refuses a key given twice (the later one would silently win)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.tag == "tag:yaml.org,2002:bool" and str(key_node.value).lower() in _WORDS:
                key_node.tag = "tag:yaml.org,2002:str"
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key `{key}` is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Loader(_UniqueKeys, yaml.SafeLoader):
    """The loader in Python, whose messages are the better ones."""


class _FastLoader(_UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, several times faster, the look at the depth included."""


def _int_or_name(loader: Any, node: yaml.ScalarNode) -> int | str:
    """Read `12_1` as text: it names a model's variant, and YAML 1.1 would make it 121."""
    text = str(loader.construct_scalar(node))
    return text if "_" in text else int(loader.construct_yaml_int(node))


for _kind in (_Loader, _FastLoader):
    _kind.add_constructor("tag:yaml.org,2002:int", _int_or_name)


def _load(text: str) -> Any:
    """Return what a text says.

    Raises:
        yaml.YAMLError: If it is no YAML, or nested too deeply.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_FastLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise yaml.YAMLError(f"mappings and lists are in each other more than {DEEPEST} deep")
        return yaml.load(text, Loader=_FastLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping safely (no tags that execute code, no duplicate keys).

    Raises:
        ConfigError: If the file is missing, is not YAML, or is not a mapping.
    """
    file = Path(path)
    try:
        content = _load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror or error}). Fix: check the path."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: is not valid YAML: {error}{_hint(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{file}: must be a mapping with text keys, but is {type(content).__name__}.")
    return content


def to_yaml(section: BaseModel | Mapping[str, Any]) -> str:
    """Return a section as YAML text that `read_yaml` reads back."""
    plain = section.model_dump(mode="json") if isinstance(section, BaseModel) else dict(section)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110)


def _allowed_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed beside the one at `location`."""
    current: Any = model
    for part in location[:-1]:
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = _section_in(current.model_fields[str(part)].annotation)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def _section_in(annotation: Any) -> Any:
    """Return the first section among the types of a key, as of `dict[int, Section]`; None without one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section_in(one) for one in get_args(annotation))
    return next((one for one in inner if one is not None), None)


def _key_of(location: tuple[int | str, ...], content: Any) -> str:
    """Return the dotted key of a location, without the type names that pydantic adds where several may be."""
    parts, value = [], content
    for part in location:
        inside = isinstance(part, int) and isinstance(value, list | tuple) and part < len(value)
        if not inside and (not isinstance(value, Mapping) or "[" in str(part)):
            continue
        parts.append(str(part))
        value = value.get(part) if isinstance(value, Mapping) else value[int(part)]
    return ".".join(parts)


def _emptied(item: Any) -> bool:
    """Return whether a list is only called too short because its entries were refused."""
    return bool(item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"])


def _of_other_kind(item: Any, errors: Sequence[Any]) -> bool:
    """Return whether a section is called no word, where the others say what is wrong in it."""
    if item["type"] != "literal_error" or not isinstance(item["input"], Mapping):
        return False
    place = item["loc"][:-1]
    return any(one["loc"][: len(place)] == place and one["type"] != "literal_error" for one in errors)


def _explain(error: ValidationError, model: type[BaseModel], source: str, content: Mapping[str, Any]) -> str:
    lines = []
    wrong: dict[tuple[str, str], list[str]] = {}
    errors = error.errors()
    for item in errors:
        if _of_other_kind(item, errors):
            continue
        key = _key_of(item["loc"], content)
        if item["type"] == "extra_forbidden":
            allowed = _allowed_keys(model, item["loc"])
            close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else f" Known keys: {', '.join(allowed)}."
            lines.append(f"{source}: key `{key}` is unknown.{hint}")
        elif item["type"] == "missing" and isinstance(item["loc"][-1], int):
            # All values behind it are called missing too; the first one's number says how many there are.
            known = any(line.startswith(f"{source}: key `{key}` has too few values") for line in lines)
            if not known:
                lines.append(f"{source}: key `{key}` has too few values: {item['loc'][-1]}. Fix: give more.")
        elif item["type"] == "missing":
            lines.append(f"{source}: key `{key}` is missing.")
        elif not _emptied(item):
            messages = wrong.setdefault((key, repr(item.get("input"))), [])
            messages.append(item["msg"].removeprefix("Value error, "))
    for (key, given), messages in wrong.items():
        either = "; or: ".join(dict.fromkeys(message.rstrip(".") for message in messages))
        # What concerns a section as a whole names its keys by itself.
        lines.append(f"{source}: key `{key}`: {either} (given: {given})." if key else f"{source}: {either}.")
    return "\n".join(lines)


def validated(model: type[ModelT], content: Mapping[str, Any], source: str) -> ModelT:
    """Check a mapping against a configuration model.

    Args:
        model: The pydantic model.
        content: The mapping, for example from `read_yaml`.
        source: What to call it in messages: a file, or a file and a key.

    Returns:
        The model instance.

    Raises:
        ConfigError: With one line a problem: source, key, what is wrong, and for an unknown key the nearest
            known one.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(_explain(error, model, source, content)) from error


def apply_overrides(content: dict[str, Any], overrides: list[str], flag: str = "--set") -> dict[str, Any]:
    """Return a copy of a mapping with `key.sub=value` settings applied; values are YAML.

    Args:
        content: For example a recipe.
        overrides: The settings.
        flag: The option they were given with, for messages.

    Raises:
        ConfigError: If a setting has no `=`, or goes through a key that is not a mapping.
    """
    for setting in overrides:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{flag} {setting}: must look like key.sub=value.")
        content = with_values(content, {path: _yaml_value(text, f"{flag} {setting}")}, f"{flag} {setting}")
    return copy.deepcopy(content)


def with_values(content: Mapping[str, Any], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a copy of a mapping with the values of dotted keys replaced, as in {"training.epochs": 3}.

    Args:
        content: For example a recipe.
        values: The new values by dotted key.
        source: What to call them in messages.

    Raises:
        ConfigError: If a key is empty, or goes through one that is not a mapping.
    """
    result: dict[str, Any] = copy.deepcopy(dict(content))
    for path, value in values.items():
        *parents, last = path.split(".")
        if not all([*parents, last]):
            raise ConfigError(f"{source}: must look like key.sub=value.")
        target = result
        for part in parents:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{source}: `{part}` is not a section.")
        target[last] = copy.deepcopy(value)
    return result


def _hint(error: Exception) -> str:
    """Return what mends text that YAML cannot take apart; nothing of other errors."""
    if not isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return ""
    return '. Fix: put text that holds brackets, colons, * or # in quotes, as in "x[*]".'


def _yaml_value(text: str, source: str) -> Any:
    try:
        return _load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source}: {text!r} is not valid YAML: {error}{_hint(error)}") from error


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe file.

    Args:
        path: The YAML file.
        overrides: Settings such as ``training.epochs=3`` that replace values of the file.

    Raises:
        ConfigError: If the file or a setting is invalid.
    """
    content = apply_overrides(read_yaml(path), overrides or [])
    if "sweep" in content:
        raise ConfigError(f"{path}: must be a recipe, but is a sweep. Fix: qhybrid sweep {path}")
    return validated(Recipe, content, str(path))
