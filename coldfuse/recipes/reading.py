"""Reading a whole recipe from a file, coldfuse's own or mergekit's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coldfuse.engine.tied import find_tied
from coldfuse.errors import UserInputError
from coldfuse.recipes.documents import Document, mapping_of, read_document, text_of
from coldfuse.recipes.mergekit import read_mergekit
from coldfuse.recipes.recipe_file import RecipeFile, fit
from coldfuse.recipes.weights_file import settings_of_document
from coldfuse.tensors.checkpoint import Checkpoint

_KEYS = ("method", "base", "models", "parameters", "seed")


def read_recipe_file(path: Path, open_base: Callable[[str], Checkpoint]) -> RecipeFile:
    """Read a recipe file; mergekit's is held against its base as well.

    Args:
        path: The file.
        open_base: Opens a model by the place or hub id that the file names.

    Raises:
        UserInputError: It cannot be read, is no recipe, or says what coldfuse does not do.
    """
    document = read_document(path)
    if "merge_method" in document:
        read = read_mergekit(document, str(path))
        base = open_base(read.base)
        tied = find_tied(base)
        fused = {name: spec.dtype for name, spec in base.schema.items() if spec.is_fused and name not in tied}
        return fit(read, fused, str(path))
    if "method" in document:
        return _own(document, str(path))
    raise UserInputError(
        f"{path}: no recipe: expected method with base and models (coldfuse's), or merge_method (mergekit's); "
        f"got {', '.join(sorted(document)) or 'nothing'}"
    )


def _own(document: Document, where: str) -> RecipeFile:
    known = mapping_of(document, where, _KEYS)
    said = known.get("models")
    if isinstance(said, list):
        names = [text_of(name, f"{where}: models") for name in said]
        said = dict.fromkeys(names)
        if len(said) < len(names):
            raise UserInputError(f"{where}: models: one is named twice")
    models = mapping_of(said, f"{where}: models")
    if not models:
        raise UserInputError(f"{where}: models: expected those that are fused, by name")
    parts = {"models": models, "parameters": known.get("parameters")}
    found = settings_of_document(parts, list(models), where)
    seed = known.get("seed")
    if not isinstance(seed, int | str | None) or isinstance(seed, bool):
        raise UserInputError(f"{where}: seed: expected a number or a text, got {seed!r}")
    return RecipeFile(
        method=text_of(known["method"], f"{where}: method"), base=text_of(known.get("base"), f"{where}: base"),
        models=tuple(models), settings=found.models, shared=found.shared, seed=None if seed is None else str(seed),
    )  # fmt: skip
