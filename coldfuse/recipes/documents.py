"""Reading what people write by hand, JSON or YAML: bounded, plain data only, and nothing that is said twice."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from coldfuse.core.serialization import unique_names
from coldfuse.errors import UserInputError

Document = dict[str, object]
"""A mapping, as JSON and YAML have it: text, numbers, booleans, null, lists and mappings."""

_MAX_JSON_BYTES = 16 << 20
_MAX_YAML_BYTES = 1 << 20
"""YAML takes a hundred times as long to read."""

_MAX_DEPTH = 32

_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError, OverflowError)
"""What reading raises: PyYAML lets Python's own errors through where a value is not of the type that its tag says."""


def read_document(path: Path) -> Document:
    """Read a file that holds one mapping.

    Raises:
        UserInputError: There is no such file, it is too large, or it is neither JSON nor YAML of plain data.
    """
    text = _read_text(path)
    found: object = None
    is_json = path.suffix == ".json" or text.lstrip().startswith("{")
    try:
        found = json.loads(text, object_pairs_hook=unique_names) if is_json else _read_yaml(text)
    except json.JSONDecodeError as error:
        if path.suffix == ".json":
            raise UserInputError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from error
        found = _explained_yaml(path, text)  # YAML may begin with { as well
    except _UNREADABLE as error:
        raise UserInputError(f"{path}: {_reason(error)}") from error
    if not isinstance(found, dict):
        raise UserInputError(f"{path}: expected names with values (JSON or YAML), got {_kind(found)}")
    return {text_of(key, str(path)): value for key, value in found.items()}


def text_of(value: object, where: str) -> str:
    """Return a text. Raises `UserInputError` for what YAML takes for a number, a date or a truth value."""
    if isinstance(value, str) and value:
        return value
    hint = "; put it between quotes" if isinstance(value, Hashable) and value not in (None, "") else ""
    raise UserInputError(f"{where}: expected a name, got {_kind(value)}{hint}")


def mapping_of(value: object, where: str, known: Iterable[str] | None = None) -> Document:
    """Return a mapping, empty for null, with none but these keys. Raises `UserInputError` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserInputError(f"{where}: expected names with values, got {_kind(value)}")
    found = {text_of(key, where): each for key, each in value.items()}
    if known is not None and (unknown := sorted(found.keys() - set(known))):
        raise UserInputError(f"{where}: {unknown[0]!r} is not known here; known are {', '.join(known)}")
    return found


def list_of(value: object, where: str) -> list[object]:
    """Return a list that holds something. Raises `UserInputError` for anything else."""
    if not isinstance(value, list) or not value:
        raise UserInputError(f"{where}: expected a list, got {_kind(value)}")
    return value


def _read_text(path: Path) -> str:
    limit = _MAX_JSON_BYTES if path.suffix == ".json" else _MAX_YAML_BYTES
    if not path.is_file():
        what = "it is no file" if path.exists() else "there is none"
        raise UserInputError(f"{path}: expected a file of JSON or YAML, and {what}")
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise UserInputError(f"{path}: larger than {limit >> 20} MiB; JSON may have up to {_MAX_JSON_BYTES >> 20}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserInputError(f"{path}: expected text in UTF-8; byte {error.start} is not") from error


def _explained_yaml(path: Path, text: str) -> object:
    try:
        return _read_yaml(text)
    except _UNREADABLE as error:
        raise UserInputError(f"{path}: {_reason(error)}") from error


def _read_yaml(text: str) -> object:
    return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader that takes even less


class _PlainLoader(yaml.SafeLoader):
    """Reads plain data, without aliases (which can stand for more than fits into memory) and repeated names."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias, and what is nested too deep."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # as the stubs have it
        self.depth += 1
        refused = "aliases are not taken; write it out" if isinstance(event, yaml.AliasEvent) else ""
        if refused or self.depth > _MAX_DEPTH:
            raise yaml.constructor.ConstructorError(None, None, refused or "nested too deep", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a name that is said twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is said twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = error.problem or "cannot be read"
        hint = "; YAML is indented with spaces" if "'\\t'" in problem else ""
        return f"line {error.problem_mark.line + 1}: not YAML that is taken here: {problem}{hint}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    said = str(error).splitlines()
    return f"not plain data: {said[0] if said else type(error).__name__}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "names with values"
        case list():
            return "a list" if value else "an empty list"
    return repr(value)[:80]
