"""Options of the local objective, for a base that stays good round after round: `--objective "fedprox(mu=0.01) + sam"`.

objective    the shape: settings that make a term, and the moments of training that a term sees
pull         FedProx and L2-SP; ewc: EWC; synaptic: Synaptic Intelligence
sam          sharpness-aware minimisation; layer_decay: lower rates for lower layers
wise_ft      WiSE-FT, once training is over
b_tuning     what several bases say of the data (rows: what it says beside each example)
combined     several together

A term sees gradients once they are complete and weights after each step. What it sums lies in the run's checkpoint, so
that a run which is killed and goes on ends in the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from coldfuse.errors import UserInputError
from coldfuse.training.objectives.b_tuning import BTuning
from coldfuse.training.objectives.combined import Terms
from coldfuse.training.objectives.ewc import EWC
from coldfuse.training.objectives.layer_decay import LayerDecay
from coldfuse.training.objectives.objective import Beginning, Objective, Term
from coldfuse.training.objectives.pull import L2SP, FedProx
from coldfuse.training.objectives.sam import SAM
from coldfuse.training.objectives.synaptic import SynapticIntelligence
from coldfuse.training.objectives.wise_ft import WiseFT
from coldfuse.training.ways.parsing import find_known, make, split_call

__all__ = ["OBJECTIVES", "Beginning", "Objective", "Term", "Terms", "begin_terms", "parse_objectives"]

_ALL: tuple[type[Objective], ...] = (FedProx, L2SP, EWC, SynapticIntelligence, SAM, LayerDecay, WiseFT, BTuning)

OBJECTIVES: dict[str, type[Objective]] = {kind.name: kind for kind in _ALL}
"""Objectives by their names."""

_PLUS = re.compile(r"\+(?![^()]*\))")


def parse_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Read objectives: one or more in each text, joined by `+`; in the order of their names.

    >>> [objective.line() for objective in parse_objectives(["sam + fedprox(mu=0.1)"])]
    ['fedprox(mu=0.1)', 'sam(rho=0.05)']

    Raises:
        UserInputError: One is not known or named twice, or a parameter is not known or out of bounds.
    """
    found: dict[str, Objective] = {}
    for text in (part for line in texts for part in _PLUS.split(line)):
        name, given = split_call(text, option="--objective", example="fedprox(mu=0.01) or sam")
        kind = find_known(name, OBJECTIVES, option="--objective")
        if kind.name in found:
            raise UserInputError(f"--objective {kind.name} is given twice; give each once")
        found[kind.name] = make(kind, given, option="--objective", name=kind.name)
    return tuple(found[name] for name in sorted(found))


def begin_terms(
    texts: Sequence[str], beginning: Beginning, *, is_scaled: bool, saved: dict[str, Tensor] | None
) -> Terms:
    """Have the terms of an objective look at the model while it has the base's weights.

    Args:
        texts: The objectives, as `parse_objectives` reads them.
        beginning: The prepared model, before the first step.
        is_scaled: Whether gradients are scaled, as with fp16: terms would see the scale.
        saved: What a checkpoint has of them; None where training begins.

    Raises:
        UserInputError: An objective is not known, or cannot be computed here.
    """
    objectives = parse_objectives(texts)
    if objectives and is_scaled:
        raise UserInputError("--objective cannot be computed with fp16, whose gradients are scaled; take bf16")
    return Terms(objectives, beginning, saved=saved)
