"""Which of a folder's files belong to a model, by their names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from coldfuse.errors import UserInputError

INDEX = "model.safetensors.index.json"
PLAIN_SUFFIXES = (".json", ".txt", ".model", ".jinja")
"""Configuration and tokenizers. No code and no pickles: nothing in a release is ever executed."""

KNOWN_FILES = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "image_processor_config.json", "video_preprocessor_config.json", "feature_extractor_config.json", INDEX,
    "tokenizer*.json", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "normalizer.json",
    "*.model", "spiece*", "chat_template*", "*.jinja",
    "modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "[0-9]*_*/config.json",
)  # fmt: skip
"""Names that model libraries give their files, the last line sentence-transformers. Whatever else lies in the folder
(notes, data, a trainer's state) is private until somebody says otherwise, and is not published."""


def choose_plain_files(names: Collection[str], what: str) -> tuple[str, ...]:
    """Return configuration and tokenizer files, known by their names, also those of sentence-transformers' modules."""
    plain = sorted(name for name in names if _is_known(name))
    for name in plain:
        if not is_printable(name):
            raise UserInputError(f"{what}: the name {name!r} holds a backslash or a control character; rename the file")
    return tuple(plain)


def _is_known(name: str) -> bool:
    path = PurePosixPath(name)
    if path.suffix not in PLAIN_SUFFIXES or name.startswith("."):
        return False
    return any(path.match(pattern) and pattern.count("/") == name.count("/") for pattern in KNOWN_FILES)


def is_printable(name: str) -> bool:
    """Tell whether a file's name can be shown and stored: no backslash, no control character."""
    return name.isprintable() and "\\" not in name
