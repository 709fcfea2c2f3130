"""Which files make a model: the one list that publishing, fusing, fetching, loading and downloading go by.

A model lies in a folder, or in a folder of folders: the modules of a sentence-transformers model, the components of a
diffusers pipeline. In each of these a file belongs to the model if a model library gives it one of the names here, or
if a tokenizer's or processor's configuration names it (`named_files`). Whatever else lies there (notes, data, a
trainer's state) is private until somebody says otherwise, and is said to be left out, by its kind. Weights are not
listed: `coldfuse.tensors.index` chooses them. No code and no pickles: nothing in a release is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from coldfuse.core.shared_module import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODULE_FILE, MODULE_WEIGHTS

INDEX = "model.safetensors.index.json"
"""The file that says which tensor of a model lies in which of its files."""

MODULES = "modules.json"
"""The file that names the folders of a sentence-transformers model's modules."""

PIPELINE = "model_index.json"
"""The file that names the folders of a diffusers pipeline's components."""

ENTRIES = ("config.json", MODULES, PIPELINE, ADAPTER_CONFIG, MODULE_FILE)
"""The files of which a model's folder has one at least: libraries look for them first."""

TEMPLATES = "additional_chat_templates"
"""The folder in which a tokenizer keeps its further chat templates."""

VOCABULARIES_OF_ANY_CLASS = ("tokenizer.json", "tekken.json", "*.tiktoken")
"""Vocabularies that tokenizers' classes read without naming them as theirs."""

_VOCABULARIES = (
    *VOCABULARIES_OF_ANY_CLASS,
    "vocab*.json", "vocab*.txt", "*_vocab.json", "*_vocab.txt", "merges.txt", "dict.txt", "bpe.codes", "vocab.bpe",
    "*.model", "*.spm", "prophetnet.tokenizer", "artists.json", "genres.json", "lyrics.json",
    "byte_maps.json", "emoji.json", "normalizer.json", "word_shape.json", "word_pronunciation.json",
)  # fmt: skip
_TOKENIZERS = (*_VOCABULARIES, "tokenizer*.json")
_TOKENIZER_SETTINGS = (
    "special_tokens_map.json", "added_tokens.json", "chat_template*.json", "*.jinja", f"{TEMPLATES}/*.jinja",
)  # fmt: skip
_PROCESSORS = (
    "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
    "video_preprocessor_config.json", "feature_extractor_config.json", "audio_tokenizer_config.json",
)  # fmt: skip
_CONFIGURATION = (
    "config.json", "generation_config.json", *_PROCESSORS, "quantize_config.json", "quantization_config.json",
    "hf_quant_config.json",
)  # fmt: skip
_SENTENCE_TRANSFORMERS = (
    MODULES, "config_sentence_transformers.json", "sentence_*_config.json", "router_config.json",
    "wordembedding_config.json", "whitespacetokenizer_config.json", "phrasetokenizer_config.json", "lstm_config.json",
    "cnn_config.json", "idf.json",
)  # fmt: skip
_DIFFUSERS = (PIPELINE, "scheduler_config.json")

_MODEL_FILES = (*_CONFIGURATION, *_TOKENIZERS, *_TOKENIZER_SETTINGS, *_SENTENCE_TRANSFORMERS, *_DIFFUSERS)

MODULE_FILES = (MODULE_FILE, ADAPTER_CONFIG)
"""The files of a module on a frozen body, beside its weights: all that such a folder has of what may be released."""

MODULE_WEIGHT_FILES = (ADAPTER_WEIGHTS, MODULE_WEIGHTS)
"""Names that the weights of such a module may have."""

NAMING_FILES = ("tokenizer_config.json", *_PROCESSORS)
"""Configurations that may name further files of theirs."""

_INERT_SUFFIXES = (
    ".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".codes", ".tokenizer", ".bpe", ".vocab",
)  # fmt: skip

HUB_PATTERNS = (*(f"*{suffix}" for suffix in _INERT_SUFFIXES), "*.py")
"""What a hub is asked for: all that may be in a release, and code, of which only the names are looked at."""

SIGNATURE_FILE = "model.sig"
"""Name of the file in a release's folder in which the folder's signature lies."""

PROVENANCE_FILE = "provenance.json"
"""Name of the file beside it that says what a release was made from, and is signed."""

CARD_FILE = "README.md"
"""Name of a release's model card beside its files, which no release holds and no signature covers."""

CODE, OTHER_WEIGHTS = "code", "weights in another form"
_KINDS = (
    (
        "training state",
        r"(checkpoint-\d+|runs|logs|wandb|global_step\d+|tensorboard|eval)/|events\.out\..*|trainer_state\.json|latest"
        r"|training_args\.bin|(optimizer|scheduler|rng_state|scaler|random_states)[\w-]*\.(pt|pth|bin|pkl|safetensors)"
        r"|(all|train|eval|test|predict)_results\.json",
    ),
    ("signatures of what lay there", r"model\.sig|provenance\.json"),
    (CODE, r".*\.(py|ipynb|sh)|(custom_generate|__pycache__)/"),
    (
        OTHER_WEIGHTS,
        r".*\.(safetensors|bin|pt|pth|ckpt|h5|msgpack|gguf|ggml|onnx|onnx_data|pb|ot|npz|npy|mlmodel|tflite|flashpack"
        r"|pkl|nemo|engine)|(onnx|openvino|coreml|flax|gguf|original)/|.*\.index(\.\w+)?\.json|params\.json",
    ),
    (
        "documents",
        r"(README|LICEN[CS]E|NOTICE|USE_POLICY|COPYING|CITATION|CHANGELOG)[^/]*|.*\.(md|rst|pdf|png|jpe?g|gif|svg)",
    ),
)
"""What files are that do not belong to a model: the first pattern that a name matches counts."""


def is_model_file(name: str) -> bool:
    """Tell whether a file of a model's folder, or of one of its folders, belongs to the model by its name there.

    >>> is_model_file("tokenizer.json"), is_model_file("additional_chat_templates/tools.jinja")
    (True, True)
    >>> is_model_file("notes.txt"), is_model_file("data/vocab.txt"), is_model_file("modeling.py")
    (False, False, False)
    """
    return _matches(name, _MODEL_FILES) and may_be_released(name)


def is_module_file(name: str) -> bool:
    """Tell the same of a folder that one of a model's modules has to itself: its configuration may have any name.

    >>> is_module_file("lexical_config.json"), is_module_file("adapter_config.json"), is_module_file("notes.txt")
    (True, False, False)
    """
    is_configuration = fnmatchcase(name, "*_config.json") and name != "adapter_config.json" and "/" not in name
    return is_model_file(name) or (is_configuration and may_be_released(name))


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
    >>> may_be_released("provenance.json")  # that of the release itself lies there
    False
    """
    return name.endswith(_INERT_SUFFIXES) and "/." not in f"/{name}" and name != PROVENANCE_FILE


def named_files(configuration: Mapping[str, object]) -> Iterator[str]:
    """Yield the names that a tokenizer's or processor's configuration gives under `…_file`, where they are names.

    >>> list(named_files({"vocab_file": "letters.txt", "spm_file": "/home/me/x.model", "bos_token_file": None}))
    ['letters.txt']
    """
    for key, value in configuration.items():
        values = value.values() if isinstance(value, dict) else [value]
        if key.endswith(("_file", "_files")):
            yield from (name for name in values if isinstance(name, str) and "/" not in name and "\\" not in name)


def why_left_out(name: str) -> str:
    """Return the kind of a file, or of a folder (with a slash at its end), that does not belong to the model.

    >>> why_left_out("optimizer.pt"), why_left_out("onnx/"), why_left_out("LICENSE.txt"), why_left_out("data.csv")
    ('training state', 'weights in another form', 'documents', 'not known to belong to a model')
    """
    if name.startswith("."):
        return "hidden"
    kinds = (kind for kind, pattern in _KINDS if re.fullmatch(pattern, name, re.DOTALL))
    return next(kinds, "not known to belong to a model")


def folder_of(name: str) -> str:
    """Return what stands before the last slash of a file's name, and the slash; empty for the model's own folder.

    The tensors of a file in a module's or component's folder are known by their names behind this.

    >>> folder_of("2_Dense/model.safetensors"), folder_of("model.safetensors")
    ('2_Dense/', '')
    """
    return name[: name.rfind("/") + 1]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Match a pattern to a name of as many folders: `*` of its own accord would match a slash."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)
