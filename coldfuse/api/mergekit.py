"""mergekit's recipes (0.1.5), as far as coldfuse computes the same; what it does not take is named, never passed over.

Sums run in float64 and are rounded once, where mergekit computes in the models' dtype or float32. Random masks are
coldfuse's own: drawn with the same probabilities, for other elements.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from coldfuse.api.documents import Document, list_of, mapping_of, text_of
from coldfuse.api.mergekit_methods import METHODS, REFUSED, Given, MergeMethod, Model
from coldfuse.api.recipe_file import RecipeFile, named_once
from coldfuse.api.weights_file import read_setting
from coldfuse.errors import UserInputError
from coldfuse.fusion.settings import Setting

_KEYS = (
    "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source",
    "name",
)  # fmt: skip
_NOT_TAKEN = {
    "modules": "give the merge of one module as models",
    "tokenizer": "coldfuse keeps the base's tokenizer; leave it out",
    "chat_template": "coldfuse keeps the base's; leave it out",
}
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


def read_mergekit(document: Document, where: str) -> RecipeFile:
    """Return what a recipe of mergekit says.

    Raises:
        UserInputError: It is not mergekit's, or says what coldfuse does not do.
    """
    known = _known(document, where)
    name = text_of(known["merge_method"], f"{where}: merge_method")
    method = METHODS.get(name)
    if method is None:
        why = REFUSED.get(name, "is not a method that is taken")
        raise UserInputError(f"{where}: merge_method {name} {why}; taken are {', '.join(METHODS)}")
    notes: list[str] = []
    models, shared, num_layers, base = _models_of(known, where)
    shared = _settings(known.get("parameters"), f"{where}: parameters", shared)
    given = Given(where=where, base=base, models=models, shared=shared, notes=notes)
    if base is not None and base not in [model.name for model in models]:
        given = replace(given, models=(*models, Model(name=base, settings={})))
    named_once([os.path.normpath(model.name) for model in given.models], f"{where}: models")
    made = method.translate(given)
    _note_unused(method, given)
    if "name" in known:
        notes.append("name has no effect: the result lies where --out says")
    _check_tokenizer(known, made.base, where)
    return replace(made, dtype=_dtype(known, where), num_layers=num_layers, is_lenient=True, notes=tuple(notes))


def _known(document: Document, where: str) -> Document:
    for key, why in _NOT_TAKEN.items():
        if document.get(key) is not None:
            raise UserInputError(f"{where}: {key} is not taken: {why}")
    return mapping_of({k: v for k, v in document.items() if k not in _NOT_TAKEN}, where, _KEYS)


def _models_of(known: Document, where: str) -> tuple[tuple[Model, ...], dict[str, Setting], int | None, str | None]:
    """Return the models, what their slice says of all of them, how many layers it has, and the base."""
    base = known.get("base_model")
    named = None if base is None else _model_name(base, f"{where}: base_model")
    if (known.get("models") is None) == (known.get("slices") is None):
        raise UserInputError(f"{where}: expected either models or slices")
    if known.get("models") is not None:
        entries = list_of(known["models"], f"{where}: models")
        return tuple(_model(each, f"{where}: models", ()) for each in entries), {}, None, named
    slices = list_of(known["slices"], f"{where}: slices")
    if len(slices) > 1:
        raise UserInputError(f"{where}: slices: {len(slices)}; coldfuse takes one, of all layers of whole models")
    said = mapping_of(slices[0], f"{where}: slices", ("sources", "parameters", "base_model"))
    if said.get("base_model") is not None:
        named = _model_name(said["base_model"], f"{where}: slices: base_model")
    sources = list_of(said.get("sources"), f"{where}: slices: sources")
    models = tuple(_model(each, f"{where}: slices: sources", ("layer_range",)) for each in sources)
    ranges = {str(mapping_of(each, where).get("layer_range")) for each in sources}
    end = _end_of(mapping_of(sources[0], where).get("layer_range"), where)
    if len(ranges) > 1:
        raise UserInputError(f"{where}: slices: layer_range: {' and '.join(sorted(ranges))}; give each all its layers")
    return models, _settings(said.get("parameters"), f"{where}: slices: parameters", {}), end, named


def _end_of(said: object, where: str) -> int:
    match said:
        case [0, int(end)] if not isinstance(end, bool) and end > 0:
            return end
    raise UserInputError(f"{where}: slices: layer_range {said}: expected [0, N] with all N layers: no slice is cut out")


def _model(said: object, where: str, more: Sequence[str]) -> Model:
    known = mapping_of(said, where, ("model", "parameters", *more))
    name = _model_name(known.get("model"), f"{where}: model")
    return Model(name=name, settings=_settings(known.get("parameters"), f"{where}: {name}", {}))


def _model_name(said: object, where: str) -> str:
    name = text_of(said, where)
    if not os.path.exists(name):
        if "+" in name:
            raise UserInputError(f"{where}: {name}: an adapter on a model is not taken; name a model, or an adapter")
        if "@" in name:
            raise UserInputError(f"{where}: {name}: a revision is not taken; download it, and name the folder")
    return name


def _settings(said: object, where: str, first: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return parameters by name; truth values as 0 and 1. What `first` says comes first."""
    found = {}
    for name, value in mapping_of(said, where).items():
        plain = float(value) if isinstance(value, bool) else value
        found[name] = read_setting(plain, f"{where}: {name}", with_tables=False)
    for name, own in first.items():
        found[name] = Setting((*own.rules, *found[name].rules)) if name in found else own
    return found


def _note_unused(method: MergeMethod, given: Given) -> None:
    """Tell which parameters mergekit's own method does not look at where they stand."""
    by_model = {name for model in given.models for name in model.settings} - set(method.by_model)
    unused = (set(given.shared) - {*method.by_model, *method.shared}) | by_model
    for name in sorted(unused):
        where = "of a model has" if name in by_model else "has"
        given.notes.append(f"{name} {where} no effect on mergekit's {method.name}")
    if "int8_mask" in method.shared and "int8_mask" in given.shared:
        given.notes.append("int8_mask has no effect on the result")


def _check_tokenizer(known: Document, base: str, where: str) -> None:
    source = known.get("tokenizer_source")
    if source is not None and source not in ("base", base):
        raise UserInputError(f"{where}: tokenizer_source {source!r} is not taken: coldfuse keeps the base's tokenizer")


def _dtype(known: Document, where: str) -> str | None:
    said = known.get("out_dtype") or known.get("dtype")
    for key in ("dtype", "out_dtype"):
        if known.get(key) is not None and known[key] not in _DTYPES:
            raise UserInputError(f"{where}: {key} {known[key]!r}: expected one of {', '.join(_DTYPES)}")
    return None if said is None else _DTYPES[str(said)]
