"""Attacks on a round, one family a file, and their table.

An attack is what hostile contributors do with the two things that they have: their data, and what they send. The first
is a function over data sets, the second one over deltas. Names and defaults are those of FLPoison
(github.com/vio1etus/FLPoison) unless the file says otherwise. All know everything: the benign deltas of their round,
how many contribute, and how many are hostile. That is more than an attacker in a federation sees, who gets no delta of
others.

Shape letters: C benign contributors, F hostile ones, N elements of the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.simulation.attacks.alie import alie
from coldfuse.simulation.attacks.attack import Attack, Knowledge, Rows
from coldfuse.simulation.attacks.backdoor import edge_case, replacement, thin
from coldfuse.simulation.attacks.copies import mimic, near_copies, zeros
from coldfuse.simulation.attacks.inner_product import ipm
from coldfuse.simulation.attacks.labels import label_flip
from coldfuse.simulation.attacks.min_max import min_max, min_sum
from coldfuse.simulation.attacks.noise import gaussian, matched_noise
from coldfuse.simulation.attacks.own_delta import scaling, sign_flip

__all__ = ["ATTACKS", "Attack", "Knowledge", "Rows"]

ATTACKS: Mapping[str, Attack] = {
    "gaussian": Attack(summary="noise of deviation 1", craft=gaussian),
    "matched-noise": Attack(summary="noise as long as their own delta", craft=matched_noise),
    "sign-flip": Attack(summary="their own delta, backwards", craft=sign_flip),
    "scaling": Attack(summary="their own delta, 10 times", craft=scaling),
    "zeros": Attack(summary="a delta that changes nothing", craft=zeros),
    "mimic": Attack(summary="the first benign delta, byte for byte", craft=mimic),
    "near-copies": Attack(summary="the first benign delta with a thousandth of noise", craft=near_copies),
    "alie": Attack(summary="mean + z·deviation, z from n and f", craft=alie),
    "alie-1.5": Attack(summary="mean + 1.5·deviation", craft=lambda known: alie(known, z=1.5)),
    "ipm": Attack(summary="the benign mean, backwards, a tenth as long", craft=ipm),
    "min-max": Attack(summary="as far back from the mean as the largest benign distance hides", craft=min_max),
    "min-sum": Attack(summary="as far back from the mean as the largest benign sum of distances hides", craft=min_sum),
    "label-flip": Attack(summary="trained on wrong labels", poison=label_flip),
    "edge-case": Attack(summary="back door: a rare word means the target", poison=edge_case, is_backdoor=True),
    "replacement": Attack(
        summary="the same back door, scaled to replace the mean", poison=edge_case, craft=replacement, is_backdoor=True
    ),
    "thin": Attack(
        summary="5 % of everybody's data carries the back door; nobody is hostile", poison=thin, is_backdoor=True,
        poisons_everybody=True,
    ),
}  # fmt: skip
"""The attacks by the name that the command takes."""
