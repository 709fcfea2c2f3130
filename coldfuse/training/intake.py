"""Find out, by trying, in which form a body takes texts: its lengths, its padding, and whether it can compute in bf16.

A list of architectures would be wrong for the next one. So a short text passes through the body alone and beside a long
one, and, where it is to be trained, a tiny batch passes forward and backward.

Shape letters: B texts of a batch, H hidden features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.core.words import plural
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.training.compute import computes_bf16, keep_float32, native_autocast
from coldfuse.training.encoding import Intake, TokenizedTexts, encode, tokenize
from coldfuse.training.failures import ModelFailedError, failures_of
from coldfuse.training.loading import length_limit

TRIED_TOKENS = 64
"""Tokens of the longer text of a trial; a text of a model's full length may need more memory than there is."""

_MIN_LENGTH = 5  # three special tokens, and one token of each text of a pair
_MOST_LEAKAGE = 0.1
"""Change of a text's features by the padding beside it, as a share of their norm, from which on the padding is read.

Masks are exact to 1e-6, convolutions across the end of a text change 1e-3, and what mixes all positions 0.8 (FNet).
"""


def find_intake(body: nn.Module, tokenizer: Any, *, max_length: int, trains: bool = False) -> Intake:
    """Try a body with its tokenizer, and say in which form it takes texts.

    A body that cannot compute in bf16, where this device could, computes in float32 from here on.

    Args:
        body: A body as `load_body` returns it, on its device. Its weights are left as they are.
        tokenizer: Its tokenizer, as `load_tokenizer` returns it.
        max_length: Tokens of a text that are wanted.
        trains: True where gradients are wanted as well.

    Raises:
        UserInputError: The body takes no texts, or not this tokenizer's; one line says why.
    """
    limit = length_limit(body, tokenizer)
    if limit < _MIN_LENGTH:
        raise UserInputError(
            f"{type(body).__name__} and its tokenizer read at most {limit} tokens of a text, expected {_MIN_LENGTH} or "
            "more; see max_position_embeddings in config.json and model_max_length in tokenizer_config.json"
        )
    intake = Intake(max_length=min(max_length, limit), num_types=_num_types(body), num_tokens=num_embedded_tokens(body))
    texts = tokenize(tokenizer, _sample(intake.max_length), intake)
    was_training, buffers = body.training, [buffer.clone() for buffer in body.buffers()]
    try:
        return _tried(body, texts, intake, trains=trains)
    finally:
        body.train(was_training)
        body.zero_grad()
        for buffer, before in zip(body.buffers(), buffers, strict=True):
            buffer.copy_(before)  # statistics that a pass in training mode has moved


def num_embedded_tokens(body: nn.Module) -> int | None:
    """Return the number of rows of the body's embedding of tokens; None for a body that has no such table."""
    try:
        table = body.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def _sample(max_length: int) -> TextDataset:
    long_text = " ".join(["word"] * min(max_length, TRIED_TOKENS))
    return TextDataset(texts=("a text", long_text), labels=(0, 1), label_names=("short", "long"))


def _num_types(body: nn.Module) -> int | None:
    number = getattr(body.config, "type_vocab_size", None)
    return number if isinstance(number, int) else None


def _tried(body: nn.Module, texts: TokenizedTexts, intake: Intake, *, trains: bool) -> Intake:
    """Try batches of their own length first, as that is cheaper, and then every text padded to the full length."""
    refusal: ModelFailedError | None = None
    for pad_to in (None, intake.max_length):
        padded = replace(texts, pad_to=pad_to)
        try:
            if pad_to is None and _reads_padding(body, padded):
                continue
            _pass_through(body, padded, trains=trains)
            return replace(intake, pad_to=pad_to)
        except ModelFailedError as error:
            refusal = refusal or error
    assert refusal is not None  # noqa: S101 - only a failure has led here
    raise refusal


@torch.no_grad()
def _reads_padding(body: nn.Module, texts: TokenizedTexts) -> bool:
    """Tell whether the padding behind a text is more to the body than nothing."""
    body.eval()
    device = next(body.parameters()).device
    alone_H, padded_H = (encode(body, texts.batch(indices, device))[0] for indices in ([0], [0, 1]))
    return bool((alone_H - padded_H).norm() > _MOST_LEAKAGE * alone_H.norm())


def _pass_through(body: nn.Module, texts: TokenizedTexts, *, trains: bool) -> None:
    """Run a batch forward, and backward where it is to be trained; keep the body in float32 where bf16 fails."""
    device = next(body.parameters()).device
    if computes_bf16(device):
        try:
            with native_autocast(device):
                _run_once(body, texts, device, trains=trains)
            return
        except UserInputError:
            keep_float32(body)
    _run_once(body, texts, device, trains=trains)


def _run_once(body: nn.Module, texts: TokenizedTexts, device: torch.device, *, trains: bool) -> None:
    body.train(trains)
    with torch.set_grad_enabled(trains):
        short_BH, both_BH = (encode(body, texts.batch(indices, device)) for indices in ([0], [0, 1]))
        if not (short_BH.isfinite().all() and both_BH.isfinite().all()):
            raise UserInputError(f"{type(body).__name__} gives features that are not finite{_broken(body)}")
        if trains:
            _require_gradients(body, both_BH)


def _require_gradients(body: nn.Module, features_BH: Tensor) -> None:
    with failures_of(body, "passing a gradient back"):
        features_BH.square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in body.parameters() if parameter.grad is not None]
    if not any(gradient.any() for gradient in gradients):
        raise UserInputError(f"{type(body).__name__} has no weight that training would move; take another base")
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise UserInputError(f"{type(body).__name__} gives gradients that are not finite{_broken(body)}")


def _broken(body: nn.Module) -> str:
    """Say which weights are to blame, where it is they."""
    names = [name for name, parameter in body.named_parameters() if not parameter.isfinite().all()]
    if not names:
        return ": its weights are broken, or too large for the dtype that it computes in; fetch or make it anew"
    more = f", as {plural(len(names) - 1, 'other tensor')} do" if len(names) > 1 else ""
    return f": {names[0]} holds infinity or NaN{more}; make the base anew, in float32"
