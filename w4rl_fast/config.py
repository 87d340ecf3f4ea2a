"""Frozen dataclasses to JSON and back, strictly: what a run was made with is enough to make it again."""

import contextlib
import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from w4rl_fast.errors import UserError, near
from w4rl_fast.files import publish

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

_UNIONS = (Union, types.UnionType)

CLASS_KEY = "class"
"""Holds the name of the config's class in a file; no field can have this name."""


def to_json_dict(config: "DataclassInstance") -> dict[str, Any]:
    """What json.dumps writes for a config: nested configs become objects, tuples lists, paths strings."""
    return {field.name: _encode(getattr(config, field.name), field.name) for field in _fields(type(config)).values()}


def from_json_dict(cls: type[Config], data: object) -> Config:
    """Rebuild a config from what `to_json_dict` gave; anything that does not fit is an error that names the field."""
    return _decode_config(cls, data, "")


def override(config: Config, settings: Sequence[str]) -> Config:
    """A copy of the config with "name=value" or "part.name=value" settings, read by the types of the fields."""
    data = to_json_dict(config)
    for setting in settings:
        name, equals, text = setting.partition("=")
        path = name.strip().split(".")
        if not equals:
            raise UserError(f"setting {setting!r}", rule="a setting is name=value", remedy="Example: horizon=20")
        value = _read(_annotation_at(type(config), path), _Text(text.strip()))
        target = data
        for part in path[:-1]:
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target[path[-1]] = value
    return from_json_dict(type(config), data)


def save_config(path: Path, config: "DataclassInstance") -> None:
    """Write a config and the name of its class as JSON, wholly or not at all."""
    data = {CLASS_KEY: type(config).__name__, **to_json_dict(config)}
    publish(path, (json.dumps(data, indent=2) + "\n").encode())


def load_config(path: Path, cls: type[Config]) -> Config:
    """Read the config that `save_config` wrote; a config of another class is refused."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}", rule=str(error.strerror or error), remedy="Check the path") from error
    except ValueError as error:
        raise UserError(f"{path}", rule=f"a config is JSON, but {error}", remedy="Restore or correct it") from error
    kind = data.pop(CLASS_KEY, None) if isinstance(data, dict) else None
    if kind != cls.__name__:
        raise UserError(
            f"{path} holds {kind or 'no config'}", rule=f"{cls.__name__} is needed here", remedy="Name another file"
        )
    return from_json_dict(cls, data)


def _encode(value: object, name: str) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json_dict(value)
    if isinstance(value, tuple):
        return [_encode(item, name) for item in value]
    if isinstance(value, Mapping):
        return {key: _encode(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _misfit(name, value, "a finite number")
    return value


def _decode(annotation: Any, value: object, name: str) -> Any:
    if isinstance(value, _Text):
        value = _read(annotation, value)
    origin = get_origin(annotation)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _decode_config(annotation, value, name)
    if origin in _UNIONS:
        return _decode_union(annotation, value, name)
    if origin is Literal:
        return _decode_literal(annotation, value, name)
    if origin is tuple:
        return _decode_tuple(annotation, value, name)
    if origin is dict:
        return _decode_dict(annotation, value, name)
    if annotation in _SCALARS:
        return _SCALARS[annotation](value, name)
    raise TypeError(f"{name} is annotated {_describe(annotation)}, which a config cannot hold")


def _decode_config(cls: type[Config], data: object, name: str) -> Config:
    where = f"{name}." if name else ""
    if not isinstance(data, Mapping):
        raise _misfit(name or cls.__name__, data, f"an object with the fields of {cls.__name__}")
    fields, annotations = _fields(cls), get_type_hints(cls)
    known = [f"{where}{key}" for key in fields]
    for key in data:
        if key not in fields:
            raise _unknown(f"{where}{key}", cls, known)
    missing = [f"{where}{key}" for key, field in fields.items() if key not in data and _is_required(field)]
    if missing:
        raise UserError(
            f"{cls.__name__} lacks {', '.join(missing)}", rule="these have no default", remedy="Give each a value"
        )
    values = {key: _decode(annotations[key], value, f"{where}{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(name or cls.__name__, rule=str(error), remedy="Correct the value") from error


def _decode_union(annotation: Any, value: object, name: str) -> Any:
    """The member whose own type the value has, else the first that takes it; strings come last for what was typed."""
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if value is None and len(members) < len(get_args(annotation)):
        return None
    if len(members) == 1:
        return _decode(members[0], value, name)
    if sum(map(dataclasses.is_dataclass, members)) > 1:
        raise TypeError(f"{name} may be one of several configs, which JSON cannot tell apart")
    for member in sorted(members, key=lambda member: (type(value) is not member, member in (str, Path))):
        with contextlib.suppress(UserError):
            return _decode(member, value, name)
    raise _misfit(name, value, _describe(annotation))


def _decode_literal(annotation: Any, value: object, name: str) -> Any:
    for choice in get_args(annotation):
        if type(choice) is type(value) and choice == value:
            return choice
    raise _misfit(name, value, _describe(annotation))


def _decode_tuple(annotation: Any, value: object, name: str) -> Any:
    members = get_args(annotation)
    if not isinstance(value, list | tuple):
        raise _misfit(name, value, _describe(annotation))
    if members[-1] is Ellipsis:
        members = members[:1] * len(value)
    if len(members) != len(value):
        raise _misfit(name, value, _describe(annotation))
    return tuple(
        _decode(member, item, f"{name}[{index}]")
        for index, (member, item) in enumerate(zip(members, value, strict=True))
    )


def _decode_dict(annotation: Any, value: object, name: str) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _misfit(name, value, _describe(annotation))
    return {key: _decode(get_args(annotation)[1], item, f"{name}.{key}") for key, item in value.items()}


def _exactly(kind: type) -> Callable[[object, str], Any]:
    def decode(value: object, name: str) -> Any:
        if type(value) is not kind:
            raise _misfit(name, value, kind.__name__)
        return value

    return decode


def _decode_float(value: object, name: str) -> float:
    if type(value) not in (int, float):
        raise _misfit(name, value, "float")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _misfit(name, value, "a finite number")
    return number


def _decode_path(value: object, name: str) -> Path:
    if not isinstance(value, str):
        raise _misfit(name, value, "path")
    return Path(value)


_SCALARS: dict[Any, Callable[[object, str], Any]] = {
    bool: _exactly(bool),
    int: _exactly(int),
    str: _exactly(str),
    float: _decode_float,
    Path: _decode_path,
}


class _Text(str):
    """What a user typed for a field: read by the field's type, not yet JSON."""


def _read(annotation: Any, text: _Text) -> object:
    """The JSON value meant by `text` where `annotation` is expected; text that fits nothing stays a string."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin in _UNIONS:
        return None if types.NoneType in members and text in ("none", "null") else text
    if origin is Literal:
        return {_spell(choice): choice for choice in members}.get(text, str(text))
    if origin is tuple and not text.startswith("["):
        return [_Text(item.strip()) for item in text.split(",")] if text else []
    if annotation in (str, Path):
        return str(text)
    try:
        return float(text) if annotation is float else json.loads(text)
    except ValueError:
        return str(text)


def _annotation_at(cls: type["DataclassInstance"], path: list[str]) -> Any:
    """The type of the field that a dotted name leads to, through nested configs and the keys of dictionaries."""
    annotation: Any = cls
    for part in path:
        annotation = _without_none(annotation)
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        elif dataclasses.is_dataclass(annotation) and part in _fields(annotation):
            annotation = get_type_hints(annotation)[part]
        else:
            raise _unknown(".".join(path), cls, _names(cls, ""))
    return annotation


def _names(cls: Any, where: str) -> list[str]:
    names = []
    for name, annotation in get_type_hints(cls).items():
        if name in _fields(cls):
            inner = _without_none(annotation)
            nested = _names(inner, f"{where}{name}.") if dataclasses.is_dataclass(inner) else []
            names += nested or [f"{where}{name}"]
    return names


def _without_none(annotation: Any) -> Any:
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    is_optional = get_origin(annotation) in _UNIONS and len(members) == 1
    return members[0] if is_optional else annotation


def _fields(cls: Any) -> dict[str, "Field[Any]"]:
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _spell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _describe(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(_spell(choice) for choice in get_args(annotation))
    if get_origin(annotation) in _UNIONS:
        return " or ".join(_describe(member) for member in get_args(annotation))
    if annotation is types.NoneType:
        return "none"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def _misfit(name: str, value: object, kind: str) -> UserError:
    return UserError(f"{name} = {value!r}", rule=f"{name} is {kind}", remedy="Give a value of that type")


def _unknown(name: str, cls: type, known: list[str]) -> UserError:
    return UserError(f"unknown field {name!r}", rule=f"{cls.__name__} has no such field", remedy=near(name, known))
