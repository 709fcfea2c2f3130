"""Whether contributors can train a base, found out by training it for a moment: what `init` says of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.data.dataset import TextDataset
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES, quiet
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.check_kinds import try_another_kind
from coldfuse.training.compute import reproducible
from coldfuse.training.encoding import Intake, encode, tokenize
from coldfuse.training.failures import first_line
from coldfuse.training.intake import find_intake, num_embedded_tokens
from coldfuse.training.loading import NO_LIMIT, length_limit, load_body, load_tokenizer
from coldfuse.training.model import stored_names_in, stored_parameters
from coldfuse.training.settings import TrainingSettings

MAX_TRIED_BYTES = 2 << 30
"""Size of a body's weights in float32 up to which it is tried; its gradients need as much again."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class BaseCheck:
    """What contributors can do with a base."""

    obstacle: str | None = None
    """Why `coldfuse contribute` cannot train it; None where it can, as far as was looked."""
    finding: str = ""
    """What was tried or looked at, and what came of it, for people."""
    remarks: tuple[str, ...] = ()
    """What works only in part, a sentence each."""
    reads_texts: bool = True
    """Whether it needs a tokenizer."""


def check_base(model_dir: Path, *, has_tokenizer: bool = True, max_tried_bytes: int = MAX_TRIED_BYTES) -> BaseCheck:
    """Load a base's body and tokenizer once, and train the body on two texts; a large one is only looked at.

    Nothing is changed, and nothing random of the process is touched.

    Args:
        model_dir: A Hugging Face model folder.
        has_tokenizer: False for a folder without one: then its body is only built or loaded.
        max_tried_bytes: Size in float32 from which on the body is not loaded but only built without its weights.
    """
    schema = open_checkpoint(model_dir).schema
    size_bytes = 4 * sum(math.prod(spec.shape) for spec in schema.values() if spec.is_fused)
    is_large = size_bytes > max_tried_bytes
    try:
        with quiet(), reproducible(seed=0, device="cpu", threads=None):
            if other := try_another_kind(model_dir, is_tried=not is_large, has_tokenizer=has_tokenizer):
                return BaseCheck(finding=other[0], reads_texts=other[1])
            body = load_body(model_dir, structure_only=is_large, may_lack=True)
            if not has_tokenizer:
                return BaseCheck(finding=type(body).__name__)
            tokenizer = load_tokenizer(model_dir)
            remarks = _misfits(body, tokenizer)
            reads = _reading(body, tokenizer)
            if is_large:
                size = f"{size_bytes / 2**30:.1f} GiB in float32"
                return BaseCheck(finding=f"{reads}; with {size} it was not tried", remarks=remarks)
            return _try(body, tokenizer, set(schema), reads, remarks)
    except ColdfuseError as error:
        return BaseCheck(obstacle=str(error))
    except LIBRARY_FAILURES as error:  # a tokenizer's own code, for one
        return BaseCheck(obstacle=f"{model_dir}: {first_line(error)}")


def _try(body: nn.Module, tokenizer: Any, names: set[str], reads: str, remarks: tuple[str, ...]) -> BaseCheck:
    trained: list[str] = []
    for name, parameter in body.named_parameters():
        parameter.register_hook(_noting(name, trained))  # type: ignore[no-untyped-call]
    intake = find_intake(body, tokenizer, max_length=TrainingSettings().max_length, trains=True)
    # The first raises where the files have other names; a mixture's experts are one parameter of many tensors.
    stored = {*stored_parameters(body, names), *stored_names_in(body, body, names)}
    if private := sorted(set(trained) - stored):
        more = f" and {len(private) - _SHOWN} more" if len(private) > _SHOWN else ""
        remarks += (
            f"the base's files lack {', '.join(private[:_SHOWN])}{more}: every contributor trains random ones of its "
            "own, which do not travel",
        )
    if intake.pad_to is not None:
        remarks += ("this body reads padding as well, so that every text is padded to the full length",)
    return BaseCheck(
        finding=f"{reads}; trained on two texts, it works", remarks=remarks + _on_pairs(body, tokenizer, intake)
    )


def _noting(name: str, trained: list[str]) -> Callable[[Tensor], None]:
    """Return a hook that notes a parameter that a gradient reaches."""

    def note(gradient: Tensor) -> None:
        if gradient.any():
            trained.append(name)

    return note


@torch.no_grad()
def _on_pairs(body: nn.Module, tokenizer: Any, intake: Intake) -> tuple[str, ...]:
    pair = TextDataset(texts=("a text",), text_pairs=("another",), labels=(0,), label_names=("one",))
    try:
        encode(body, tokenize(tokenizer, pair, intake).batch([0], torch.device("cpu")))
    except (UserInputError, *LIBRARY_FAILURES) as error:
        return (f"tasks of two texts cannot be trained: {first_line(error)}",)
    return ()


def _misfits(body: nn.Module, tokenizer: Any) -> tuple[str, ...]:
    num_rows, num_tokens = num_embedded_tokens(body), len(tokenizer)
    if num_rows is None or num_tokens <= num_rows:
        return ()
    return (
        f"the tokenizer has {num_tokens} tokens and the model's embedding {num_rows} rows: nobody can train on a text "
        "with a token beyond them; take the model's own tokenizer, or call model.resize_token_embeddings",
    )


def _reading(body: nn.Module, tokenizer: Any) -> str:
    limit = length_limit(body, tokenizer)
    return f"{type(body).__name__} reads texts of {f'up to {limit} tokens' if limit < NO_LIMIT else 'any length'}"
