"""A weights file: what each model's weight and parameters are, and those of all, by tensor where they differ.

    models:
      alice:                       as on the command line, or the last part of it
        weight: 0.7
      bob:
        weight: [0, 0.5, 1]        from the first layer to the last, with straight lines between
        density:
          - {filter: self_attn, value: 0.5}     the first filter that is a part of a tensor's name decides
          - {value: 0.3}
    parameters:                    where a model says nothing, and parameters of the method
      scale: 0.9

A table `{tensor: number}` says it tensor by tensor, with `*` for all others; `coldfuse fuse --json` says it so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.errors import UserInputError
from coldfuse.fusion.settings import Rule, Setting, Settings, Table
from coldfuse.recipes.documents import list_of, mapping_of, read_document, text_of

_CONDITION = {"filter", "value"}
_EVERYTHING = "*"


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """What a weights file says."""

    models: tuple[Settings, ...]
    """Each model's own settings, in the order of the models."""
    shared: Settings = field(default_factory=dict)
    """What holds where a model's own settings say nothing."""


def read_weights_file(path: Path, models: Sequence[str]) -> FileSettings:
    """Read a weights file for models, named as the user names them.

    Raises:
        UserInputError: It cannot be read, or names a model that is not among them.
    """
    document = read_document(path)
    if "merge_method" in document:
        raise UserInputError(f"{path}: a whole recipe of mergekit; give it as --recipe {path}, without models")
    if "method" in document:
        raise UserInputError(f"{path}: a whole recipe; give it as --recipe {path}, without models")
    return settings_of_document(document, models, str(path))


def settings_of_document(document: Mapping[str, object], models: Sequence[str], where: str) -> FileSettings:
    """Return what a weights file's content says. Raises as `read_weights_file`."""
    known = mapping_of(dict(document), where, ("models", "parameters"))
    if not known:
        raise UserInputError(f"{where}: says nothing; expected models, parameters or both")
    found: list[Settings | None] = [None] * len(models)
    for name, said in mapping_of(known.get("models"), f"{where}: models").items():
        index = _index_of(name, models, where)
        if found[index] is not None:
            raise UserInputError(f"{where}: {name}: {models[index]} has settings already, under another name")
        found[index] = read_settings(said, f"{where}: {name}")
    shared = read_settings(known.get("parameters"), f"{where}: parameters")
    return FileSettings(models=tuple(own or {} for own in found), shared=shared)


def read_settings(said: object, where: str) -> dict[str, Setting]:
    """Return settings by name. Raises `UserInputError` for what is none."""
    return {name: read_setting(value, f"{where}: {name}") for name, value in mapping_of(said, where).items()}


def read_setting(said: object, where: str, *, with_tables: bool = True) -> Setting:
    """Return one setting: a number, a list of them over the layers, rules with filters, or a table of tensors.

    >>> read_setting([{"filter": "mlp", "value": [0, 1]}, {"value": "1e-1"}], "file: weight").rules
    (Rule(values=(0.0, 1.0), filter='mlp', part=None), Rule(values=(0.1,), filter='', part=None))

    Raises:
        UserInputError: It is none of these, or a number is not finite.
    """
    if isinstance(said, dict) and not (said.keys() <= _CONDITION and "value" in said):
        if not (with_tables and said) or _CONDITION & said.keys():
            raise UserInputError(
                f"{where}: expected a number, or value with an optional filter, got {sorted(map(str, said))}"
            )
        numbers = {text_of(name, where): _number(value, f"{where}: {name}") for name, value in said.items()}
        return Setting((Table(numbers),))
    if isinstance(said, list) and any(isinstance(each, dict) for each in said):
        return Setting(tuple(_rule(each, where) for each in said))
    return Setting((_rule(said if isinstance(said, dict) else {"value": said}, where),))


def _rule(said: object, where: str) -> Rule:
    condition = mapping_of(said, where, ("filter", "value"))
    if "value" not in condition:
        raise UserInputError(f"{where}: a rule without a value; expected value, with an optional filter")
    part = condition.get("filter")
    name = "" if part in (None, _EVERYTHING) else text_of(part, f"{where}: filter")
    return Rule(tuple(_numbers(condition["value"], where)), name)


def _numbers(said: object, where: str) -> Iterator[float]:
    for each in list_of(said, where) if isinstance(said, list) else [said]:
        yield _number(each, where)


def _number(said: object, where: str) -> float:
    number = math.nan
    if isinstance(said, int | float | str) and not isinstance(said, bool):  # YAML takes 1e-3 for a text
        try:
            number = float(said)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise UserInputError(f"{where}: expected a finite number, got {str(said)[:80]!r}")
    return number


def _index_of(name: str, models: Sequence[str], where: str) -> int:
    """Find the model that a name stands for: the whole place as it was given, or the last part of one."""
    wanted = os.path.normpath(name)
    places = [os.path.normpath(model) for model in models]
    for named in (places, [os.path.basename(place) for place in places]):
        found = [index for index, place in enumerate(named) if place == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserInputError(f"{where}: {name}: {len(found)} models are called so; name each by its whole place")
    raise UserInputError(f"{where}: {name}: there is no such model; there are {', '.join(models)}")
