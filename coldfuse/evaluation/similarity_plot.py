"""A picture of similarities: heat maps by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.words import printable
from coldfuse.durable import explained
from coldfuse.errors import UserInputError
from coldfuse.evaluation.likeness import Similarity, WeightPair

_MOST_PANELS = 30
"""Heat maps of pairs that still can be told apart in one picture."""

_COLUMNS = 3


def draw_similarity(found: Similarity, path: Path) -> None:
    """Draw cosine and sign agreement of the weights by layer and pair, and CKA of all layers of each pair.

    Raises:
        UserInputError: There are too many pairs for a picture, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    num_panels = 2 * bool(found.weights) + len(found.representations)
    if num_panels > _MOST_PANELS:
        raise UserInputError(f"{len(found.representations)} pairs are too many for a picture; name fewer models")
    columns = min(num_panels, _COLUMNS)
    rows = -(-num_panels // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(5 * columns, 4.5 * rows), layout="constrained", squeeze=False
    )
    panels = list(grid.flat)
    if found.weights:
        of = "weights" if found.base is None else "task vectors"
        _draw_weights(panels.pop(0), found.weights, f"cosine of the {of}", "cosine")
        _draw_weights(panels.pop(0), found.weights, f"sign agreement of the {of}", "sign_agreement")
    for pair in found.representations:
        axes = panels.pop(0)
        _draw(axes, np.array(pair.cka, dtype=float), title="CKA of the hidden states", low=0.0)
        axes.set(ylabel=f"layer of {_short(pair.one)}", xlabel=f"layer of {_short(pair.other)}")
        axes.locator_params(integer=True)
        axes.invert_yaxis()
    for axes in panels:
        axes.set_visible(False)
    with explained(path):
        figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_weights(axes: Any, pairs: Sequence[WeightPair], title: str, what: str) -> None:  # matplotlib is untyped
    layers = ["all", *pairs[0].layers]
    values = [
        [getattr(pair.overall if name == "all" else pair.layers[name], what) for pair in pairs] for name in layers
    ]
    _draw(axes, np.array(values, dtype=float), title=title, low=-1.0 if what == "cosine" else 0.0)
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xticks(
        range(len(pairs)), [f"{_short(pair.one)}\n{_short(pair.other)}" for pair in pairs], rotation=45, ha="right"
    )


def _draw(axes: Any, values: NDArray[np.float64], *, title: str, low: float) -> None:
    image = axes.imshow(values, vmin=low, vmax=1.0, cmap="RdBu_r" if low < 0 else "viridis", aspect="auto")
    axes.set_title(title)
    if values.size <= 200:
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}"
            red, green, blue, _ = image.cmap(image.norm(value))
            color = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            axes.text(column, row, text, ha="center", va="center", fontsize="small", color=color)
    axes.figure.colorbar(image, ax=axes)


def _short(name: str) -> str:
    shown = printable(name.rstrip("/"))
    return (shown if len(shown) <= 24 else f"…{shown[-23:]}").replace("$", r"\$")
