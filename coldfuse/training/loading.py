"""Load a model from a folder: its body, its tokenizer, and what both can take. Never from the network, never code."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coldfuse.core.model_files import VOCABULARIES_OF_ANY_CLASS
from coldfuse.errors import UserInputError
from coldfuse.naming.building import failures, offline, quiet, too_many_layers
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.failures import first_line
from coldfuse.training.lacking import require_found

_FEW_LAYERS = 1024
"""Number of layers or experts that any model may have; more only where the files have as many tensors."""

NO_LIMIT = 1 << 20
"""Number of tokens from which on a limit is none: tokenizers without one say 10^30."""


def load_body(model_dir: Path, *, structure_only: bool = False, may_lack: bool = False) -> nn.Module:
    """Load the shared body of the model in `model_dir`, in float32, without any head.

    Args:
        model_dir: A Hugging Face model folder.
        structure_only: True for the modules alone, without memory for weights (on torch's device `meta`).
        may_lack: True where a smaller part of it may be lacking in the files: it is drawn at random, and logged.

    Raises:
        UserInputError: The folder holds no model, or one that cannot be trained on texts: an encoder-decoder, one of
            images or sounds, a quantised one, or one that needs code of its own; or its files lack tensors of it.
    """
    body = load_guarded(model_dir, lambda: _load(model_dir, structure_only=structure_only, may_lack=may_lack))
    kind, inputs = type(body).__name__, getattr(body, "main_input_name", "input_ids")
    if inputs != "input_ids":
        raise UserInputError(f"{model_dir}: {kind} takes {inputs}, expected a model of texts such as BERT or RoBERTa")
    if is_encoder_decoder(body):
        raise UserInputError(
            f"{model_dir}: {kind} is an encoder-decoder; expected an encoder such as BERT or RoBERTa; the encoder of a "
            "T5 can be trained, saved alone: T5EncoderModel.from_pretrained(MODEL).save_pretrained(FOLDER)"
        )
    if hasattr(body.config, "use_cache"):
        body.config.use_cache = False  # of the keys and values, for generating: memory that nothing reads
    return body


def load_guarded(model_dir: Path, load: Callable[[], nn.Module]) -> nn.Module:
    """Load the model in a folder with a class of transformers, once the folder is one that can be trained.

    Args:
        model_dir: A Hugging Face model folder.
        load: Loads it; what transformers raises there is said in one line.

    Raises:
        UserInputError: The folder holds no model, a quantised one, or one that needs code of its own.
    """
    checkpoint = open_checkpoint(model_dir)  # a missing, torn or pickled file is refused here, in words
    declared = _read_config(model_dir)
    _refuse_declared(model_dir, declared, num_tensors=len(checkpoint.schema))
    with quiet(), offline():
        try:
            return load()
        except failures() as error:
            raise _not_a_model(model_dir, error, needs_code="auto_map" in declared) from error


def load_structure(model_dir: Path) -> nn.Module:
    """Return the modules of a folder's headless model, without memory for its weights, whatever it reads.

    Raises:
        UserInputError: The folder holds no model, a quantised one, or one that needs code of its own.
    """
    return load_guarded(model_dir, lambda: _load(model_dir, structure_only=True))


def is_encoder_decoder(body: Any) -> bool:
    """Tell whether a model has both halves: a T5's encoder, saved alone, has not."""
    return bool(getattr(body.config, "is_encoder_decoder", False)) and not _is_encoder_alone(body.config)


def load_with_head(model_dir: Path, auto_class: str, **settings: object) -> nn.Module:
    """Load the model in a folder with the head of a task, in float32; what its files lack is drawn at random.

    Args:
        model_dir: A Hugging Face model folder.
        auto_class: Name of transformers' class for the task, such as `AutoModelForMaskedLM`.
        settings: Settings of its configuration, such as `num_labels`.

    Raises:
        UserInputError: The folder holds no model that can be trained, or one of no architecture with such a head.
    """
    model = load_guarded(model_dir, lambda: _load_with_head(model_dir, auto_class, settings))
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False  # of the keys and values, for generating: memory that nothing reads
    return model


def _load_with_head(model_dir: Path, auto_class: str, settings: Mapping[str, object]) -> nn.Module:
    import transformers

    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(model_dir, **own, **settings)
    loader: Any = getattr(transformers, auto_class)
    if type(config) not in getattr(loader, "_model_mapping", {type(config)}):
        raise UserInputError(
            f"{model_dir}: {config.model_type} is an architecture without {auto_class.removeprefix('AutoModelFor')} in "
            "transformers; take another --task, or a base that has such a head"
        )
    model, info = loader.from_pretrained(
        model_dir, config=config, dtype=torch.float32, use_safetensors=True, ignore_mismatched_sizes=True,
        output_loading_info=True, **own,
    )  # fmt: skip
    body, prefix = model.base_model, "" if model.base_model is model else f"{model.base_model_prefix}."
    missing = {name.removeprefix(prefix) for name in info["missing_keys"] if name.startswith(prefix)}
    require_found(model_dir, body, missing, unexpected=info["unexpected_keys"], may_lack=True)
    found: nn.Module = model
    return found


def _load(model_dir: Path, *, structure_only: bool, may_lack: bool = False) -> nn.Module:
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(model_dir, **own)
    loader: Any = AutoModelForTextEncoding if _is_encoder_alone(config) else AutoModel
    if structure_only:
        with torch.device("meta"):
            structure: nn.Module = loader.from_config(config, trust_remote_code=False)
            return structure
    loaded, info = loader.from_pretrained(
        model_dir, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **own
    )
    body: nn.Module = loaded
    missing, unexpected = info["missing_keys"], info["unexpected_keys"]
    require_found(model_dir, body, missing, unexpected=unexpected, may_lack=may_lack)
    return body


def _is_encoder_alone(config: Any) -> bool:
    """Tell whether the folder holds an encoder-decoder's encoder (T5EncoderModel): AutoModel would add a decoder."""
    names = getattr(config, "architectures", None) or []
    return any(str(name).endswith("EncoderModel") for name in names)


def _read_config(model_dir: Path) -> dict[str, object]:
    """Return what config.json says, as far as it can be read; transformers says what is wrong with it."""
    try:
        declared = json.loads((model_dir / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return declared if isinstance(declared, dict) else {}


def _refuse_declared(model_dir: Path, declared: Mapping[str, object], *, num_tensors: int) -> None:
    # A layer without a tensor in the files would be made up at random, whatever memory it takes.
    if reason := too_many_layers(declared, max(_FEW_LAYERS, num_tensors)):
        raise UserInputError(f"{model_dir}/config.json: {reason}, and its files have {num_tensors:,} tensors")
    if quantization := declared.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise UserInputError(
            f"{model_dir}: the model is quantised ({method or 'quantization_config in its config.json'}), and such "
            "weights cannot be trained; take the model that it was made from, in float32, bfloat16 or float16"
        )


def load_tokenizer(model_dir: Path) -> Any:  # transformers is untyped
    """Load the tokenizer beside the model, padding and truncating on the right.

    Raises `UserInputError` where there is none.
    """
    from transformers import AutoTokenizer

    with quiet(), offline():
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        except failures() as error:
            raise _not_a_model(model_dir, error) from error
    _require_vocabulary(model_dir, tokenizer)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token_id is None:  # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _require_vocabulary(model_dir: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer whose class has a vocabulary that the folder lacks: to it every word is unknown.

    Those of bytes and characters (ByT5, CANINE) name no files.
    """
    own = tuple(dict.fromkeys(tokenizer.vocab_files_names.values()))
    if own and not any(any(model_dir.glob(pattern)) for pattern in (*own, *VOCABULARIES_OF_ANY_CLASS)):
        raise UserInputError(
            f"{model_dir}: no tokenizer in it; expected {', '.join(dict.fromkeys(('tokenizer.json', *own)))} beside "
            "the model, which model.save_pretrained alone does not write; put them there with tokenizer.save_pretrained"
            f'("{model_dir}")'
        )


def length_limit(body: nn.Module, tokenizer: Any) -> int:
    """Return how many tokens both the body's positions and the tokenizer allow; a number below 1 is no limit."""
    num_positions = _limit(getattr(body.config, "max_position_embeddings", None))
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    if offset is not None and num_positions < NO_LIMIT:  # RoBERTa counts positions from behind the padding index
        num_positions -= offset + 1
    return min(num_positions, _limit(tokenizer.model_max_length))


def _limit(declared: object) -> int:
    if not isinstance(declared, int | float) or not 1 <= declared < NO_LIMIT:  # also no number at all, and NaN
        return NO_LIMIT
    return int(declared)


def _not_a_model(model_dir: Path, error: Exception, *, needs_code: bool = False) -> UserInputError:
    if needs_code:
        return UserInputError(
            f"{model_dir}: the model needs code of its own (auto_map in its config.json), which is never run; take a "
            f"base whose architecture transformers has itself; {first_line(error)}"
        )
    return UserInputError(
        f"{model_dir}: expected a Hugging Face model folder with config.json, model*.safetensors and a tokenizer that "
        f"needs no code of its own; {first_line(error)}"
    )
