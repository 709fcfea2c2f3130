"""Start the private part of a head that otherwise travels, such as that of masked language modelling.

A base may lack it: an encoder saved without its head. Drawn at random it would push noise through the body, so it is
trained alone first. The body passes over some examples once; its hidden states at the tokens that are to be predicted
are kept, and the head learns from them: a fraction of what a step of training costs.

Shape letters: T tokens to be predicted, H hidden features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.training.failures import failures_of
from coldfuse.training.schedule import derive_seed
from coldfuse.training.tasks.probing import some_features
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import run_over
from coldfuse.training.tasks.task import Feature, TaskModel

_MOST_TOKENS = 8192
_STEPS, _TOKENS_OF_STEP, _RATE = 64, 128, 2e-3


def train_alone(loaded: TaskModel, features: Sequence[Feature], *, shifted: bool = False) -> None:
    """Train the private parameters of a language model on its unchanged body, without dropout.

    Most models have none: then nothing is done.

    Args:
        loaded: The model; its processor says which parameters the base's files lack.
        features: What it learns from.
        shifted: True where a token is predicted from the one before it.
    """
    model, wanted = loaded.processor.model, loaded.processor.private
    body = model.base_model
    if not wanted or not features or body is model:
        return
    states_TH, labels_T = _states(loaded, body, features, shifted=shifted)
    optimizer = torch.optim.AdamW(wanted, lr=_RATE, weight_decay=0.0)
    with torch.enable_grad(), _only(wanted, model), _giving(body) as give:
        for step in range(_STEPS):
            generator = torch.Generator().manual_seed(derive_seed("alone", step))
            chosen = torch.randperm(len(labels_T), generator=generator)[:_TOKENS_OF_STEP].to(labels_T.device)
            told, labels = states_TH[chosen].unsqueeze(1), labels_T[chosen].unsqueeze(1)
            if shifted:  # each token twice: such a loss leaves out the label of the first, and the last
                told, labels = told.expand(-1, 2, -1), labels.expand(-1, 2)
            give(told)
            some = {"input_ids": torch.zeros_like(labels), "attention_mask": torch.ones_like(labels)}
            with failures_of(body, "training its head"):
                model(**some, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def _states(loaded: TaskModel, body: nn.Module, features: Sequence[Feature], *, shifted: bool) -> tuple[Tensor, Tensor]:
    """Return the body's hidden states at the tokens that are to be predicted, and what these are."""
    states, labels, count = [], [], 0
    chosen = some_features(features, _width(loaded), len(features))
    last: list[Tensor] = []
    hook = body.register_forward_hook(lambda _module, _inputs, output: last.append(output[0]))
    try:
        for start in range(0, len(chosen), 16):
            for _, batch, _ in run_over(loaded, chosen[start : start + 16]):
                hidden, wanted = last.pop(), batch["labels"]
                if shifted:
                    hidden, wanted = hidden[:, :-1], wanted[:, 1:]
                states.append(hidden[wanted != NO_LABEL].float())
                labels.append(wanted[wanted != NO_LABEL])
                count += len(labels[-1])
            if count >= _MOST_TOKENS:
                break
    finally:
        hook.remove()
    return torch.cat(states), torch.cat(labels)


def _width(loaded: TaskModel) -> int:
    return int(getattr(loaded.processor.model.config, "hidden_size", 0) or 1024)


@contextmanager
def _only(wanted: Sequence[nn.Parameter], model: nn.Module) -> Iterator[None]:
    """Let some parameters alone learn, without dropout; leave the model as it was."""
    before, was_training = [(own, own.requires_grad) for own in model.parameters()], model.training
    model.eval()
    for own, _ in before:
        own.requires_grad_(False)
    for own in wanted:
        own.requires_grad_()
    try:
        yield
    finally:
        model.train(was_training)
        for own, could_learn in before:
            own.requires_grad_(could_learn)
            own.grad = None


class _Given(tuple[Tensor]):
    """Output of a body of any class: hidden states, and nothing else that a head may hand on."""

    def __getattr__(self, name: str) -> Tensor | None:
        """Return the hidden states by their name, and None for anything else."""
        return self[0] if name == "last_hidden_state" else None


@contextmanager
def _giving(body: nn.Module) -> Iterator[Callable[[Tensor], None]]:
    """Have a body give hidden states that it is told, whatever it is asked."""
    states = torch.empty(0)

    def take(told: Tensor) -> None:
        nonlocal states
        states = told

    own: Any = body.__dict__.get("forward")
    body.forward = lambda *_, **__: _Given((states,))
    try:
        yield take
    finally:
        del body.forward
        if own is not None:
            body.forward = own
