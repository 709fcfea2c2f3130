"""An evaluation as a picture: a row a data set, a mark a model, with the spread over the seeds."""

from __future__ import annotations

from pathlib import Path

from coldfuse.durable import explained
from coldfuse.errors import UserInputError
from coldfuse.evaluation.values import EvaluatedData, Evaluation, Scored

ENDINGS = (".png", ".svg", ".pdf")
"""Endings of files that can be drawn to."""


def require_picture(path: Path) -> None:
    """Refuse a file that cannot be drawn to, before anything is computed.

    Raises:
        UserInputError: Its ending is that of no picture, or its folder is not there.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserInputError(f"--plot {path}: expected a file that ends in {', '.join(ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise UserInputError(f"--plot {path}: there is no folder {path.parent}; create it")


def draw_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Draw an evaluation into a file; perplexities have an axis of their own.

    Raises:
        UserInputError: The file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    data = {each.name: each for each in evaluation.data}
    panels = list(dict.fromkeys((row.protocol, data[row.data].higher_is_better) for row in evaluation.scores))
    most = max(len({row.data for row in _panel(evaluation, data, panel)}) for panel in panels)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5 * len(panels) + 2, 1.5 + 0.3 * most), layout="constrained", squeeze=False
    )
    for place, (axis, panel) in enumerate(zip(axes[0], panels, strict=True)):
        rows = _panel(evaluation, data, panel)
        names = list(dict.fromkeys(row.data for row in rows))
        factor = 100 if panel[1] else 1
        for number, model in enumerate(evaluation.models):
            own = {row.data: row for row in rows if row.model == model.name}
            shift = 0.12 * (number - (len(evaluation.models) - 1) / 2)
            axis.errorbar(
                [factor * own[name].mean for name in names],
                [len(names) - index - shift for index in range(len(names))],
                xerr=[factor * (own[name].spread or 0.0) for name in names],
                fmt="o", markersize=5, capsize=2, label=_plain(model.name),
            )  # fmt: skip
        axis.set_yticks([len(names) - index for index in range(len(names))], [_plain(name) for name in names])
        metrics = ", ".join(dict.fromkeys(data[name].metric for name in names))
        axis.set(title=_plain(panel[0]), xlabel=f"{metrics}{', %' if panel[1] else ' (lower is better)'}")
        axis.grid(alpha=0.3)
        if place == 0:
            axis.legend(fontsize="small")
    with explained(path):
        figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panel(evaluation: Evaluation, data: dict[str, EvaluatedData], panel: tuple[str, bool]) -> list[Scored]:
    return [row for row in evaluation.scores if (row.protocol, data[row.data].higher_is_better) == panel]


def _plain(text: str) -> str:
    """Return text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
