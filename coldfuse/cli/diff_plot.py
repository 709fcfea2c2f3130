"""How far each layer moved and who moved it, as a picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib as mpl

from coldfuse.core.words import printable
from coldfuse.durable import write_whole
from coldfuse.errors import UserInputError
from coldfuse.movement.compare import Movement

_KINDS = ("png", "svg", "pdf")

_MOST = 12
"""Number of contributions that have a colour of their own."""


def plot(movement: Movement, path: Path) -> None:
    """Draw one bar a layer, as long as ‖Δ‖ / ‖θ‖, divided by whose share of it is whose.

    Raises:
        UserInputError: The file's name ends with no kind of picture, or it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _KINDS:
        raise UserInputError(f"{path}: expected a file that ends with .png, .svg or .pdf")
    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 - once it is said that there is no screen

    layers = movement.layers
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.28 * len(layers)), layout="constrained")
    labels = [_plain(name) for name in layers]
    lengths = [100 * (moved.relative or 0.0) for moved in layers.values()]
    axes.barh(labels, lengths, color="0.85", label="in all")
    movers = [mover for mover in movement.movers if mover.unreadable is None]
    if movement.is_exact and len(movers) <= _MOST:
        left = [0.0] * len(layers)
        for mover in movers:
            parts = [
                length * max(moved.share(mover.contribution) or 0.0, 0.0)
                for length, moved in zip(lengths, layers.values(), strict=True)
            ]
            name = f"{mover.release}: {mover.who}" if movement.steps else mover.who
            axes.barh(labels, parts, left=left, label=_plain(name))
            left = [start + part for start, part in zip(left, parts, strict=True)]
        axes.legend(fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="change, % of the weights' length", title=_plain(f"{movement.before} → {movement.after}"))
    picture = BytesIO()
    figure.savefig(picture, format=kind, dpi=150)
    pyplot.close(figure)
    write_whole(path, picture.getvalue())


def _plain(text: str) -> str:
    """Return words as they are: in a picture, a dollar would begin a formula."""
    return printable(text[:80]).replace("$", r"\$")
