"""From a command's options to a command of Typer; what does the work is loaded when the command runs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, cast, get_type_hints

from coldfuse.extras import requiring


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a command takes, and what it does."""

    options: type[Any]
    """Frozen dataclass of the command's arguments and options; its docstring is the command's help."""
    runs: str
    """Function that is called with the options, as `module:name`."""
    panel: str
    """Heading under which `coldfuse --help` lists the command."""
    extra: str | None = None
    """Extra that brings what the command needs."""
    at_once: tuple[str, ...] = ()
    """Libraries that the command cannot do without, though it gets to them late."""
    prepare: Callable[[], None] | None = None
    """Sets the environment that libraries read when they are imported."""


def typer_function(name: str, command: Command) -> Callable[..., None]:
    """Return the function that Typer makes a command of: one parameter an option.

    Args:
        name: The words that call the command, for messages.
        command: The command. A field of its options that is a dataclass itself stands for that one's fields.
    """

    def run(**given: Any) -> None:
        with requiring(f"coldfuse {name}", command.extra, at_once=command.at_once):
            if command.prepare is not None:
                command.prepare()
            module, _, function = command.runs.partition(":")
            getattr(importlib.import_module(module), function)(_build(command.options, given))

    parameters = list(_parameters(command.options))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer goes by
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.options.__doc__
    return run


def _parameters(options: type[Any]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        kind = hints[field.name]
        if is_dataclass(kind):
            yield from _parameters(cast("type[Any]", kind))
            continue
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=inspect.Parameter.empty if default is MISSING else default,
        )


def _build(options: type[Any], given: Mapping[str, Any]) -> object:
    hints = get_type_hints(options)
    return options(**{
        field.name: _build(hints[field.name], given) if is_dataclass(hints[field.name]) else given[field.name]
        for field in fields(options)
    })  # fmt: skip
