"""What is trained of a model, and what of it travels: `--train`.

way       the shape of a way: it freezes and wraps a model before training, and says afterwards what changed
parts     parameters of the model itself: full, bias, norms, layers
masked    some elements of the weights, chosen once for some rounds
adapted   adapters of PEFT's: settings are PEFT's own, targets are found by what layers are, injecting puts them in, and
          merging says what they changed
parsing   a way in one line

A way is a frozen value, its fields are its parameters, as with fusion methods. What the base does not have (a head)
always trains, whatever the way.
"""

from __future__ import annotations

from coldfuse.training.moving import moving_tensors
from coldfuse.training.ways.adapted import ADAPTED
from coldfuse.training.ways.masked import Masked
from coldfuse.training.ways.parsing import find_known, make, split_call
from coldfuse.training.ways.parts import Bias, Full, Layers, Norms
from coldfuse.training.ways.way import Base, Preparation, Way

__all__ = ["WAYS", "Base", "Preparation", "Way", "moving_tensors", "parse_way"]

_OWN: tuple[type[Way], ...] = (Full, Bias, Norms, Layers, Masked)

WAYS: dict[str, type[Way]] = {way.name: way for way in (*_OWN, *ADAPTED.values())}
"""Ways by their names."""


def parse_way(text: str, *, freeze_embeddings: bool = False) -> Way:
    """Read a way of training.

    >>> parse_way("layers(last=2)").line()
    'layers(freeze_embeddings=false, last=2)'

    Args:
        text: The way, such as `full` or `layers(last=2)`.
        freeze_embeddings: True to leave embeddings as they are.

    Raises:
        UserInputError: It is not known, or a parameter is not known or out of bounds.
    """
    name, given = split_call(text, option="--train", example="full or layers(last=2)")
    kind = find_known(name, WAYS, option="--train")
    frozen = {"freeze_embeddings": True} if freeze_embeddings else {}
    return make(kind, {**given, **frozen}, option="--train", name=kind.name)
