"""mergekit's recipes (0.1.5), as far as coldfuse computes the same; what it does not take is named, never passed over.

Sums run in float64 and are rounded once, where mergekit computes in the models' dtype or float32. Random masks are
coldfuse's own: drawn with the same probabilities, for other elements.
"""

from __future__ import annotations

import os
from dataclasses import replace

from coldfuse.errors import UserInputError
from coldfuse.recipes.documents import Document, mapping_of, text_of
from coldfuse.recipes.mergekit_methods import METHODS, REFUSED, Given, MergeMethod, Model
from coldfuse.recipes.mergekit_slices import models_of, read_parameters
from coldfuse.recipes.recipe_file import RecipeFile, named_once

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
    models, shared, num_layers, base = models_of(known, where)
    shared = read_parameters(known.get("parameters"), f"{where}: parameters", shared)
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
