"""How models are scored: protocols and what they need, values only and light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.task import Task

Kind = Literal["probe", "fine-tuned", "perplexity", "lm-eval", "edit"]
"""`probe`: a new head is fitted on the frozen body (the paper's ColD-Frozen). `fine-tuned`: body and head are trained,
as a node does (ColD). `perplexity`: nothing is trained, the model is scored as it is. `lm-eval`: the harness's way.
`edit`: the model is asked for answers, as it is."""

KINDS: tuple[Kind, ...] = ("probe", "fine-tuned", "perplexity")
"""Protocols that can be asked for by name."""

_LIMITS = {
    "max_length": (5, 1_000_000), "num_epochs": (1, 10_000), "learning_rate": (1e-12, 1.0), "batch_size": (1, 65_536),
    "threads": (1, 1024),
}  # fmt: skip
_FEW_SHOT_EPOCHS = 20
"""Epochs over few labels: each is a step or two."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to score a model."""

    kind: Kind
    """What is trained."""
    shots: int | None = None
    """Labelled examples that are trained on, another draw for each seed; None: all there are."""

    @property
    def name(self) -> str:
        """What people call it.

        >>> Protocol(kind="probe").name, Protocol(kind="fine-tuned", shots=16).name
        ('probe', 'fine-tuned, 16 labels')
        """
        return self.kind if self.shots is None else f"{self.kind}, {plural(self.shots, 'label')}"

    @property
    def is_random(self) -> bool:
        """Whether another seed gives another score: a probe on all examples is a convex fit, and draws nothing."""
        return self.shots is not None or self.kind == "fine-tuned"


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """What decides a score beside model, data, protocol and seed."""

    max_length: int = 128
    """Tokens of a text that are read; of a language model, of the window in which it reads."""
    num_epochs: int | None = None
    """Epochs of fine-tuning; None: 3, or 20 over few labels."""
    learning_rate: float = 5e-5
    """Highest learning rate of fine-tuning."""
    batch_size: int = 32
    """Examples in one optimiser step."""
    threads: int = 1
    """Processor threads of one trial. The same number gives the same bytes, on any number of workers."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto` for a GPU where there is one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed with, by name."""
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # also refuses NaN
                raise UserInputError(f"{name} is {value}, expected {low} to {high}")

    def epochs(self, protocol: Protocol) -> int:
        """Return the epochs of fine-tuning by a protocol."""
        return self.num_epochs or (3 if protocol.shots is None else _FEW_SHOT_EPOCHS)


def protocols_for(task: Task, kinds: tuple[str, ...], shots: tuple[int, ...]) -> tuple[Protocol, ...]:
    """Return the protocols that were asked for, or the usual one of a task.

    Args:
        task: What is scored by.
        kinds: Names of protocols; none for the usual: the probe of tasks with a head of their own, else perplexity.
        shots: Numbers of labels; none for all.

    Raises:
        UserInputError: There is no such protocol, or the task has none such.
    """
    chosen = kinds or ("probe" if task.has_private_head else "perplexity",)
    protocols = []
    for kind in dict.fromkeys(chosen):
        if kind not in KINDS:
            raise UserInputError(f"protocol {kind!r} is not known; expected one of {', '.join(KINDS)}")
        if kind == "probe" and not task.has_private_head:
            raise UserInputError(
                f"a probe fits a new head, and {task.name} has none; take --protocol perplexity or fine-tuned"
            )
        if kind == "perplexity" and task.has_private_head:
            raise UserInputError(
                f"{task.name} needs a head that is fitted first, so no model can be scored as it is; take --protocol "
                "probe or fine-tuned"
            )
        if kind == "perplexity" and shots:
            raise UserInputError("--shots: perplexity trains on nothing, so there are no labels to count; leave it out")
        protocols += [Protocol(kind=kind, shots=count) for count in dict.fromkeys(shots or (None,))]
    for protocol in protocols:
        if protocol.shots is not None and protocol.shots < 1:
            raise UserInputError(f"--shots {protocol.shots}: expected 1 or more")
    return tuple(protocols)


BY_ANSWERS = Protocol(kind="edit")
"""The protocol of an edit's suite: answers that are right, of those that are asked for."""

BY_HARNESS = Protocol(kind="lm-eval")
"""The protocol of lm-evaluation-harness: its own prompts and metrics."""
