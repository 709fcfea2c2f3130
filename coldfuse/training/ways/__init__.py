"""What is trained of a model, and what of it travels: `--train`.

way       the shape of a way: it freezes and wraps a model before training, and says afterwards what changed
parts     parameters of the model itself: full, bias, norms, layers
parsing   a way in one line

A way is a frozen value, its fields are its parameters, as with fusion methods. What the base does not have (a head)
always trains, whatever the way.
"""

from __future__ import annotations

from coldfuse.training.ways.parsing import find_known, make, split_call
from coldfuse.training.ways.parts import Bias, Full, Layers, Norms
from coldfuse.training.ways.way import Base, Preparation, Way, moving_tensors

__all__ = ["WAYS", "Base", "Preparation", "Way", "moving_tensors", "parse_way"]

WAYS: dict[str, type[Way]] = {way.name: way for way in (Full, Bias, Norms, Layers)}
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
