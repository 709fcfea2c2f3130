"""Load a model from a folder: its body, its tokenizer, and what both can take. Never from the network, never code."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from coldfuse.core.model_files import VOCABULARIES_OF_ANY_CLASS
from coldfuse.errors import UserInputError
from coldfuse.naming.architecture import quiet
from coldfuse.tensors.checkpoint import open_checkpoint

_NO_LIMIT = 1 << 20  # tokenizers without a limit say 10^30


def load_body(model_dir: Path) -> nn.Module:
    """Load the shared body of the model in `model_dir`, in float32, without any head.

    Raises `UserInputError` for a folder that holds no model, or one that is no encoder.
    """
    from transformers import AutoModel

    open_checkpoint(model_dir)  # a missing, torn or pickled file is refused here, in words
    with quiet():
        try:
            body: nn.Module = AutoModel.from_pretrained(
                model_dir, local_files_only=True, trust_remote_code=False, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise _not_a_model(model_dir, error) from error
    if getattr(body.config, "is_encoder_decoder", False):
        raise UserInputError(
            f"{model_dir}: {type(body).__name__} is an encoder-decoder; expected an encoder such as BERT or RoBERTa"
        )
    return body


def load_tokenizer(model_dir: Path) -> Any:  # transformers is untyped
    """Load the tokenizer beside the model, padding and truncating on the right.

    Raises `UserInputError` where there is none, or none that can pad.
    """
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise _not_a_model(model_dir, error) from error
    _require_vocabulary(model_dir, tokenizer)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserInputError(f"{model_dir}: the tokenizer has neither a padding token nor an end token")
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so any token will do
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
    """Return how many tokens both the body's positions and the tokenizer allow."""
    num_positions = getattr(body.config, "max_position_embeddings", None) or _NO_LIMIT
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    if offset is not None:  # RoBERTa counts positions from behind the padding index
        num_positions -= offset + 1
    return int(min(num_positions, tokenizer.model_max_length, _NO_LIMIT))


def _not_a_model(model_dir: Path, error: Exception) -> UserInputError:
    first_line = str(error).strip().partition("\n")[0]
    return UserInputError(
        f"{model_dir}: expected a Hugging Face model folder with config.json, model*.safetensors and a tokenizer that "
        f"needs no code of its own; {first_line}"
    )
