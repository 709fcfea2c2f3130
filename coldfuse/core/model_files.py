"""Which files make a model: the one list that publishing, fetching, loading and downloading go by.

Names are relative POSIX paths. A base is published with the files that model libraries give these names. Whatever else
lies in its folder (notes, data, a trainer's state) is private until somebody says otherwise. Weights are not listed:
`model.safetensors` or its index names them. No code and no pickles: nothing in a release is ever executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

INDEX = "model.safetensors.index.json"
"""The file that says which tensor of a model lies in which of its files."""

VOCABULARIES_OF_ANY_CLASS = ("tokenizer.json", "tekken.json", "*.tiktoken")
"""Vocabularies that tokenizers' classes read without naming them as theirs."""

_VOCABULARIES = (
    *VOCABULARIES_OF_ANY_CLASS,
    "vocab*.json", "vocab*.txt", "*_vocab.json", "merges.txt", "dict.txt", "bpe.codes",
    "*.model", "*.spm", "prophetnet.tokenizer",
    "byte_maps.json", "emoji.json", "normalizer.json", "word_shape.json", "word_pronunciation.json",
)  # fmt: skip
_TOKENIZERS = (*_VOCABULARIES, "tokenizer*.json")
_TOKENIZER_SETTINGS = (
    "special_tokens_map.json", "added_tokens.json", "chat_template*.json", "*.jinja",
    "additional_chat_templates/*.jinja",
)  # fmt: skip
_CONFIGURATION = (
    "config.json", "generation_config.json", INDEX, "preprocessor_config.json", "processor_config.json",
    "image_processor_config.json", "video_preprocessor_config.json", "feature_extractor_config.json",
    "audio_tokenizer_config.json",
)  # fmt: skip
_SENTENCE_TRANSFORMERS = (
    "modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "[0-9]*_*/config.json",
)  # fmt: skip

_MODEL_FILES = (*_CONFIGURATION, *_TOKENIZERS, *_TOKENIZER_SETTINGS, *_SENTENCE_TRANSFORMERS)
# Names that a base's own tokenizer asks for beyond these would be added in `is_model_file`, from the base's folder.

NESTED_MODEL_FILES = tuple(pattern for pattern in _MODEL_FILES if "/" in pattern)
"""Patterns of those that lie a folder down: a folder of unknown size is not searched for anything else."""

_INERT_SUFFIXES = (
    ".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".codes", ".tokenizer",
)  # fmt: skip

HUB_PATTERNS = tuple(f"*{suffix}" for suffix in _INERT_SUFFIXES)
"""What a hub is asked for: all that may be in a release. What of it is published, `is_model_file` decides."""


def is_model_file(name: str) -> bool:
    """Tell whether a file beside the weights belongs to the model and is published with it.

    >>> is_model_file("tokenizer.json"), is_model_file("1_Pooling/config.json"), is_model_file("modeling.py")
    (True, True, False)
    >>> is_model_file("notes.txt"), is_model_file("data/vocab.txt")
    (False, False)
    """
    return _matches(name, _MODEL_FILES) and may_be_released(name)


def is_tokenizer_file(name: str) -> bool:
    """Tell whether a file is a tokenizer or a part of one; every folder that has a tokenizer has such a file.

    >>> is_tokenizer_file("tekken.json"), is_tokenizer_file("config.json")
    (True, False)
    """
    return _matches(name, _TOKENIZERS) and may_be_released(name)


def may_be_released(name: str) -> bool:
    """Tell whether a file may be in a release: tensors or text by its ending, and not hidden.

    >>> may_be_released("model-00001-of-00002.safetensors"), may_be_released("pytorch_model.bin")
    (True, False)
    """
    return name.endswith(_INERT_SUFFIXES) and "/." not in f"/{name}"


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Match a pattern to a name of as many folders: `*` of its own accord would match a slash."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
