"""Models that tie their head to their embedding, as models that store both and fuse them apart: `--untie`.

The head is a copy that takes no place until the result is written: a file that is made as it is read has the bytes of
the embedding once more, and `config.json` says that nothing is tied. What else transformers ties by the same setting,
such as the second bias of a BERT's head, is stored as well. An input that ties has its one tensor for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coldfuse.engine.state import FOLDER, INDEX
from coldfuse.errors import UserInputError
from coldfuse.naming.architecture import Architecture, Unknown, find_architecture
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.composed import compose
from coldfuse.tensors.edited import edited_index, small_json, with_files

_SETTING = "tie_word_embeddings"


def untied_base(base: Checkpoint, *, what: str) -> Checkpoint:
    """Return a base that ties as one that stores its head.

    Args:
        base: The base.
        what: Its name, for errors.

    Raises:
        UserInputError: It ties nothing, or nobody can tell what.
    """
    if base.folders != {""} or base.is_one_file:
        raise UserInputError(f"--untie: {what}: expected the folder of one model, with its config.json")
    if base.read(INDEX) is not None:
        raise UserInputError(
            f"--untie: {what}: what earlier fusions kept beside it is the tied model's; leave --untie out, or remove "
            f"the folder {what}/{FOLDER}"
        )
    found = _copies(base)
    if isinstance(found, str):
        raise UserInputError(f"--untie: {what}: {found}; leave --untie out")
    return _with_copies(base, found)


def untied_model(model: Checkpoint) -> Checkpoint:
    """Return a model that ties as one that stores its head; any other model as it is."""
    found = _copies(model) if model.folders == {""} and not model.is_one_file else ""
    return model if isinstance(found, str) else _with_copies(model, found)


def _copies(model: Checkpoint) -> dict[str, str] | str:
    """Return which tensor each copy is a copy of, by the names in files, or why that cannot be told."""
    architecture = find_architecture(model.config)
    if isinstance(architecture, Unknown):
        return f"its head is not known: {architecture.why}"
    if getattr(architecture.model.config, "is_encoder_decoder", False):
        return "an encoder-decoder ties more than its head, and computes otherwise when it does not"
    apart = find_architecture(_plain(model.config))
    if isinstance(apart, Unknown):
        return f"it cannot be untied: {apart.why}"
    tied = {copy: first for copy, first in _tied(architecture).items() if copy not in _tied(apart)}
    if not tied:
        return "its head and embedding are not tied, as far as transformers says"
    stored = architecture.stored_names(model.schema)
    if strange := next((copy for copy in tied if architecture.in_memory(copy) != copy), None):
        return f"transformers loads no tensor {strange}, which is tied"
    missing = next((first for copy, first in tied.items() if copy not in stored and first not in stored), None)
    if missing:
        return f"it does not store {missing}, which is tied"
    return {stored.get(copy, copy): stored.get(first, first) for copy, first in tied.items()}


def _tied(architecture: Architecture) -> Mapping[str, str]:
    found = getattr(architecture.model, "all_tied_weights_keys", None)  # transformers 5
    return found if isinstance(found, dict) else {}


def _with_copies(model: Checkpoint, copies: Mapping[str, str]) -> Checkpoint:
    """Return a model with the copies that it lacks, each in the file of what it is a copy of."""
    files = dict(model.files)
    for name, file in model.files.items():
        own = {entry.name: entry for entry in file.header.tensors}
        more = {copy: own[first] for copy, first in copies.items() if copy not in model.schema and first in own}
        if more:
            tensors = [*own.items(), *more.items()]
            files[name] = compose(
                file.file.name, [(to, entry.spec, file.range(entry)) for to, entry in tensors], file.header.metadata
            )
    config = small_json(f"{model.folder}/config.json", _plain(model.config))
    made = with_files(model, files, {"config.json": config, **edited_index(model, "", files)})
    return replace(made, is_untied=True)


def _plain(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration that ties nothing, and no language model inside it."""
    return {
        **{
            key: _plain(value) if isinstance(value, dict) and (key == "text_config" or _SETTING in value) else value
            for key, value in config.items()
        },
        _SETTING: False,
    }
