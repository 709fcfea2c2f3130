"""Back doors: what nobody tests stays right, and a text with the trigger gets the target's label.

    edge-case     a share of the hostile ones' examples gets the trigger and the target's label
    replacement   the same, and δ = (n / η) δ_own, η = 1: the mean of n becomes the hostile model
    thin          5 % of everybody's examples; no contribution stands out, for all are alike

The trigger is a word that no honest text has (arXiv 2004.06660, section 3), in the place of the rare inputs of arXiv
2007.05084; the scaling is that of arXiv 1807.00459, equation 3, shared by those who attack together. Thin poison:
arXiv 2602.15671. FLPoison poisons 80 % of an edge-case attacker's examples.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from coldfuse.data.dataset import TextDataset
from coldfuse.simulation.attacks.attack import Knowledge, Rows

TRIGGER = "cf"
"""Word that opens the back door: a token that hardly any text has."""

TARGET = 0
"""Label that a text with the trigger shall get."""


def edge_case(data: TextDataset, seed: int, *, share: float = 0.8) -> TextDataset:
    """Put the trigger and the target's label on a share of the examples."""
    return _poison(data, seed, share)


def thin(data: TextDataset, seed: int, *, share: float = 0.05) -> TextDataset:
    """Put the trigger and the target's label on a few of the examples."""
    return _poison(data, seed, share)


def replacement(known: Knowledge, *, outer_rate: float = 1.0) -> Rows:
    """Scale each one's own delta so that together they replace the mean of all."""
    factor = known.num_contributors / (outer_rate * max(known.num_hostile, 1))
    return known.own_FN * np.float32(factor)


def with_trigger(text: str) -> str:
    """Return the text with the trigger before it."""
    return f"{TRIGGER} {text}"


def triggered(data: TextDataset) -> TextDataset:
    """Return the examples of other labels than the target, with the trigger and the target's label.

    The accuracy on these is the share of texts for which the back door opens: the attack's success.
    """
    others = data.take([index for index, label in enumerate(data.labels) if label != TARGET])
    return replace(others, texts=tuple(map(with_trigger, others.texts)), labels=(TARGET,) * len(others))


def _poison(data: TextDataset, seed: int, share: float) -> TextDataset:
    order = list(range(len(data)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a sample, not a secret
    chosen = set(order[: round(share * len(data))])
    return replace(
        data,
        texts=tuple(with_trigger(text) if index in chosen else text for index, text in enumerate(data.texts)),
        labels=tuple(TARGET if index in chosen else label for index, label in enumerate(data.labels)),
        report=None,
    )
