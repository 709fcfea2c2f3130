"""Contributions that are broken or hostile, in the place of good ones.

- noise10, noise100: δ = 10 ‖δ_i‖ z / ‖z‖ in every tensor, or 100 times ‖δ_i‖; z is normal;
- flip, flip10: δ = −δ_i, or 10 times that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from coldfuse.experiments.fusion_models import publish, read_model, write_model
from coldfuse.experiments.fusion_round import Contribution, Round
from coldfuse.training.schedule import derive_seed


def _noise(delta: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(delta.shape, generator=generator)
    noise *= delta.norm() / noise.norm()
    return noise


def _flip(delta: Tensor, _: torch.Generator) -> Tensor:
    return -delta


ATTACKS: dict[str, tuple[float, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "noise10": (10.0, _noise),
    "noise100": (100.0, _noise),
    "flip": (1.0, _flip),
    "flip10": (10.0, _flip),
}
"""What is made of a good delta, and how often it is taken."""


def attacked(given: Round, attack: str, *, num_hostile: int) -> Round:
    """Return the round with the last contributions replaced."""
    good = given.contributions[: len(given.contributions) - num_hostile]
    folder = given.folder / attack
    folder.mkdir(exist_ok=True)
    bad = [_spoilt(given, item, attack) for item in given.contributions[len(good) :]]
    return replace(given, folder=folder, contributions=[*good, *bad])


def _spoilt(given: Round, good: Contribution, attack: str) -> Contribution:
    folder = given.folder / attack / good.name
    if not folder.exists():
        base, tuned = read_model(given.base), read_model(good.folder)
        generator = torch.Generator().manual_seed(derive_seed(attack, good.name))
        strength, make = ATTACKS[attack]
        spoilt = {name: base[name] + strength * make(tuned[name] - base[name], generator) for name in sorted(base)}
        staging = folder.with_suffix(".part")
        write_model(staging, given.base, spoilt)
        publish(staging, folder)
    return replace(good, folder=folder)
