"""The figure in the paper's form: scores over rounds, the pretrained base dashed, spread over seeds as a band."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldfuse.experiments.paper.results import Curve, Row, curves
from coldfuse.experiments.paper.values import Experiment, Group

_START = {
    "frozen": "pretrained", "fine-tuned": "pretrained (single fine-tuning)", "few-shot": "pretrained",
}  # fmt: skip
_BASELINES = {"one-shot": ":", "multitask": "-."}


def draw(rows: Sequence[Row], experiment: Experiment, path: Path) -> None:
    """Draw the curves into a PNG, one panel a protocol; baselines are level lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    found = curves(rows)
    panels = list(dict.fromkeys((curve.protocol, curve.group) for curve in found))
    figure, all_axes = pyplot.subplots(
        1, len(panels), figsize=(5.2 * len(panels) + 1.2, 4.2), layout="constrained", squeeze=False
    )
    names = list(dict.fromkeys(curve.variant for curve in found))
    for axes, (protocol, group) in zip(all_axes[0], panels, strict=True):
        own = [curve for curve in found if (curve.protocol, curve.group) == (protocol, group)]
        for curve in own:
            _draw(axes, curve, f"C{names.index(curve.variant)}")
        over_rounds = [curve for curve in own if curve.variant not in _BASELINES]
        if over_rounds:
            axes.axhline(100 * over_rounds[0].points[0].mean, color="0.4", linestyle="--", label=_START[protocol])
        if protocol == "frozen" and (single := _single(found, group)) is not None:
            axes.axhline(100 * single, color="0.6", linestyle=(0, (1, 3)), label="single fine-tuning")
        axes.set(xlabel="round", ylabel="accuracy, %", title=f"{protocol}, {group} data sets")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    all_axes[0][-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(experiment.title)
    figure.savefig(path, dpi=150, metadata={"Software": ""})
    pyplot.close(figure)


def _single(found: Sequence[Curve], group: Group) -> float | None:
    """Return what fine-tuning the pretrained base on each data set alone gives, where that was scored."""
    own = (curve for curve in found if (curve.protocol, curve.group) == ("fine-tuned", group))
    return next((curve.points[0].mean for curve in own if curve.variant not in _BASELINES), None)


def _draw(axes: Any, curve: Curve, color: str) -> None:
    if curve.variant in _BASELINES:
        level = 100 * curve.points[0].mean
        axes.axhline(level, color=color, linestyle=_BASELINES[curve.variant], label=curve.variant)
        return
    rounds = [point.round for point in curve.points]
    means = [100 * point.mean for point in curve.points]
    axes.plot(rounds, means, "o-", color=color, markersize=3, label=curve.variant)
    low = [100 * (point.mean - point.spread) for point in curve.points]
    high = [100 * (point.mean + point.spread) for point in curve.points]
    axes.fill_between(rounds, low, high, color=color, alpha=0.15, linewidth=0)
