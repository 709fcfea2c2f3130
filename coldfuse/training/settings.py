"""How a node fine-tunes: values only, and light to import."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coldfuse.errors import UserInputError
from coldfuse.training.arguments import UNDECISIVE, check_train_args

_LIMITS = {
    "num_epochs": (1, 10_000),
    "batch_size": (1, 65_536),
    "learning_rate": (1e-12, 1.0),
    "warmup_fraction": (0.0, 0.99),
    "weight_decay": (0.0, 1.0),
    "max_gradient_norm": (1e-6, 1e6),
    "dropout": (0.0, 0.99),
    "max_length": (5, 1_000_000),  # three special tokens, and one token of each text of a pair
    "tokens_at_once": (1, 1 << 40),
    "patience": (1, 10_000),
    "threads": (1, 1024),
    "checkpoint_every_s": (0.0, 1e9),
}

_FULL = "full"
_B_TUNING = re.compile(r"\bb[-_]tuning\b(?:\s*\(\s*([^()]*?)\s*\))?", re.IGNORECASE)
_UNDECISIVE = ("threads", "device", "checkpoint_every_s", "train_args")
"""Settings that decide nothing but, at most, the last bits: when to save, and where to compute."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of one fine-tuning run; the defaults suit a BERT-sized encoder and a few thousand examples."""

    num_epochs: int = 3
    """Number of times that every training example is seen, at most."""
    batch_size: int = 32
    """Examples in one optimiser step."""
    learning_rate: float = 5e-5
    """AdamW's step size at its highest, after the warm-up."""
    warmup_fraction: float = 0.06
    """Share of all steps in which the learning rate rises from zero; then it falls linearly to zero."""
    weight_decay: float = 0.0
    """AdamW's decay per step and learning rate; 0 keeps the embeddings of unseen words, and so the delta, unchanged."""
    max_gradient_norm: float = 1.0
    """L2 norm to which a longer gradient is cut."""
    dropout: float = 0.1
    """Share of features that are dropped before the head during training; the body keeps its own dropout."""
    max_length: int = 128
    """Tokens of a text (or of a pair together) that are read; the model's own limit applies as well."""
    tokens_at_once: int = 4096
    """Tokens, with padding, that pass through the body at once in training; larger batches are split. About 0.3 MB of
    memory a token for a body of hidden size 384, in proportion to its size; the result is the same up to rounding."""
    patience: int = 2
    """Epochs in a row without a better validation accuracy after which training ends early."""
    seed: int = 0
    """Seed of the order of the examples and of dropout, together with the round's number."""
    threads: int | None = None
    """Processor threads of this process; unset leaves torch's choice. The same number gives the same bytes."""
    device: str = "auto"
    """Device to train on: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one."""
    checkpoint_every_s: float = 120.0
    """Seconds of training after which a checkpoint is written, besides the one at the end of every epoch."""
    way: str = "full"
    """What is trained of the shared part: a way in one line, such as `full` or `bias`."""
    objectives: tuple[str, ...] = ()
    """Options of the local objective, each in one line, such as `fedprox(mu=0.01)`."""
    train_args: Mapping[str, Any] = field(default_factory=dict)
    """What else the user says, by the names of transformers' `TrainingArguments`; it goes before the settings above."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with, by name."""
        object.__setattr__(self, "train_args", check_train_args(self.train_args))
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # also refuses NaN
                raise UserInputError(f"{name} is {value}, expected {low} to {high}")

    def decisive(self) -> dict[str, object]:
        """Return the settings that decide the outcome: with others, what was trained is trained again."""
        chosen = {name: value for name, value in asdict(self).items() if name not in _UNDECISIVE}
        if self.way == _FULL:
            del chosen["way"]  # as before there were ways
        if not self.objectives:
            del chosen["objectives"]
        given = {name: value for name, value in self.train_args.items() if name not in UNDECISIVE}
        return chosen | {"train_args": given} if given else chosen  # as before train_args were there


def line_of_way(text: str, *, freeze_embeddings: bool = False) -> str:
    """Return a way of training with every parameter, so that equal lines train equally; `full` as it is.

    Args:
        text: The way.
        freeze_embeddings: True to leave embeddings as they are.

    Raises:
        UserInputError: There is no such way or parameter.
    """
    if text.strip() == _FULL and not freeze_embeddings:
        return _FULL
    from coldfuse.training.ways import parse_way

    return parse_way(text, freeze_embeddings=freeze_embeddings).line()


def lines_of_objectives(texts: Sequence[str]) -> tuple[str, ...]:
    """Return options of the local objective, each with every parameter and the digest of each file, in one order.

    Args:
        texts: One or more options in each, joined by `+`.

    Raises:
        UserInputError: There is no such option, parameter or file.
    """
    if not texts:
        return ()
    from coldfuse.training.objectives import parse_objectives

    return tuple(objective.settled().line() for objective in parse_objectives(texts))


def with_teachers(texts: Sequence[str], teachers: Sequence[Path]) -> list[str]:
    """Return options of the local objective with these teachers of B-Tuning, whose other parameters may be among them.

    >>> with_teachers(["sam", "b-tuning(strength=10)"], [Path("/m/one"), Path("/m/two")])
    ['sam', 'b-tuning(teachers="/m/one,/m/two", strength=10)']
    >>> with_teachers(["wise-ft"], [Path("/m/one")])
    ['wise-ft', 'b-tuning(teachers="/m/one")']
    """
    if not teachers:
        return list(texts)
    named = f'teachers="{",".join(map(str, teachers))}"'
    found = [_B_TUNING.sub(lambda m: f"b-tuning({named}{', ' if m[1] else ''}{m[1] or ''})", text) for text in texts]
    return found if found != list(texts) else [*texts, f"b-tuning({named})"]
