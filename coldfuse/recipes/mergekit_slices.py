"""The models of a mergekit recipe: named as models, or as slices that together are all layers of whole models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coldfuse.errors import UserInputError
from coldfuse.fusion.settings import Part, Rule, Setting, Settings
from coldfuse.recipes.documents import Document, list_of, mapping_of, text_of
from coldfuse.recipes.mergekit_methods import Model
from coldfuse.recipes.recipe_file import named_once
from coldfuse.recipes.weights_file import read_setting


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Some consecutive layers, of all models."""

    models: tuple[Model, ...]
    shared: Settings
    layers: tuple[int, int]
    base: str | None


def models_of(known: Document, where: str) -> tuple[tuple[Model, ...], Settings, int | None, str | None]:
    """Return the models, what their slices say of all of them, how many layers they have (None: any), and the base.

    Raises:
        UserInputError: They are named in no way that is taken.
    """
    base = None if known.get("base_model") is None else _model_name(known["base_model"], f"{where}: base_model")
    if (known.get("models") is None) == (known.get("slices") is None):
        raise UserInputError(f"{where}: expected either models or slices")
    if known.get("models") is not None:
        entries = list_of(known["models"], f"{where}: models")
        return tuple(_model(each, f"{where}: models", ()) for each in entries), {}, None, base
    slices = [_slice(each, f"{where}: slices") for each in list_of(known["slices"], f"{where}: slices")]
    _require_whole(slices, where)
    bases = {base, *(each.base for each in slices)} - {None}
    if len(bases) > 1:
        raise UserInputError(f"{where}: slices: base_model: expected one base for all layers")
    for index, each in enumerate(slices) if len(slices) > 1 else ():
        part = Part(*each.layers, has_first=index == 0, has_last=index == len(slices) - 1)
        slices[index] = replace(
            each,
            models=tuple(replace(model, settings=_within(model.settings, part)) for model in each.models),
            shared=_within(each.shared, part),
        )
    named = {model.name: _joined([_of(each, model.name) for each in slices]) for model in slices[0].models}
    models = tuple(Model(name=name, settings=settings) for name, settings in named.items())
    return models, _joined([each.shared for each in slices]), slices[-1].layers[1], next(iter(bases), None)


def read_parameters(said: object, where: str, first: Settings) -> dict[str, Setting]:
    """Return parameters by name; truth values as 0 and 1. What `first` says comes first."""
    found = {}
    for name, value in mapping_of(said, where).items():
        plain = float(value) if isinstance(value, bool) else value
        found[name] = read_setting(plain, f"{where}: {name}", with_tables=False)
    return _joined([first, found])


def _slice(said: object, where: str) -> _Slice:
    known = mapping_of(said, where, ("sources", "parameters", "base_model"))
    sources = list_of(known.get("sources"), f"{where}: sources")
    models = tuple(_model(each, f"{where}: sources", ("layer_range",)) for each in sources)
    named_once([os.path.normpath(model.name) for model in models], where)
    ranges = [mapping_of(each, where).get("layer_range") for each in sources]
    if any(each != ranges[0] for each in ranges):
        said_ranges = " and ".join(sorted({str(each) for each in ranges}))
        raise UserInputError(
            f"{where}: layer_range: {said_ranges}; a layer is fused with the same layer of other models"
        )
    base = known.get("base_model")
    return _Slice(
        models=models, shared=read_parameters(known.get("parameters"), f"{where}: parameters", {}),
        layers=_layers(ranges[0], where), base=None if base is None else _model_name(base, f"{where}: base_model"),
    )  # fmt: skip


def _layers(said: object, where: str) -> tuple[int, int]:
    match said:
        case [int(first), int(end)] if not isinstance(first, bool) and not isinstance(end, bool) and 0 <= first < end:
            return first, end
    raise UserInputError(f"{where}: layer_range {said}: expected [FIRST, END] with END above FIRST")


def _require_whole(slices: Sequence[_Slice], where: str) -> None:
    """Refuse slices that leave out, repeat or move layers, or that are not of the same models."""
    end = 0
    for each in slices:
        if each.layers[0] != end:
            raise UserInputError(
                f"{where}: slices: a layer_range begins at {each.layers[0]}, and {end} is next; "
                "coldfuse fuses whole models: take all layers once, in their order"
            )
        end = each.layers[1]
        if [model.name for model in each.models] != [model.name for model in slices[0].models]:
            raise UserInputError(f"{where}: slices: expected the same models, in one order, in all slices")


def _within(settings: Settings, part: Part) -> dict[str, Setting]:
    """Keep settings to a part of the layers."""
    return {
        name: Setting(tuple(replace(rule, part=part) if isinstance(rule, Rule) else rule for rule in setting.rules))
        for name, setting in settings.items()
    }


def _joined(parts: Sequence[Settings]) -> dict[str, Setting]:
    """Return settings of which the first that says anything decides."""
    found: dict[str, Setting] = {}
    for settings in parts:
        for name, setting in settings.items():
            found[name] = Setting((*found[name].rules, *setting.rules)) if name in found else setting
    return found


def _of(part: _Slice, name: str) -> Mapping[str, Setting]:
    return next(model.settings for model in part.models if model.name == name)


def _model(said: object, where: str, more: Sequence[str]) -> Model:
    known = mapping_of(said, where, ("model", "parameters", *more))
    name = _model_name(known.get("model"), f"{where}: model")
    return Model(name=name, settings=read_parameters(known.get("parameters"), f"{where}: {name}", {}))


def _model_name(said: object, where: str) -> str:
    name = text_of(said, where)
    if not os.path.exists(name):
        if "+" in name:
            raise UserInputError(f"{where}: {name}: an adapter on a model is not taken; name a model, or an adapter")
        if "@" in name:
            raise UserInputError(f"{where}: {name}: a revision is not taken; download it, and name the folder")
    return name
