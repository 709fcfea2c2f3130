"""An evaluation in text: a table of scores, and what the paired tests say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coldfuse.core.words import printable
from coldfuse.evaluation.values import Compared, EvaluatedData, Evaluation, Scored


def as_table(evaluation: Evaluation) -> list[str]:
    """Return an evaluation as lines of text: data sets down, models across."""
    lines: list[str] = []
    for protocol in dict.fromkeys(row.protocol for row in evaluation.scores):
        lines += [*_scores(evaluation, protocol), ""]
    if evaluation.comparisons:
        lines += [f"compared with {printable(evaluation.models[0].name)}, on the same examples:"]
        lines += [f"  {line}" for line in _rows([_compared(row) for row in evaluation.comparisons])]
        lines.append("")
    lines += [f"note: {printable(note)}" for note in evaluation.notes]
    return lines[:-1] if lines and not lines[-1] else lines


def shown(value: float, data: EvaluatedData) -> str:
    """Return a score as people read it: a share in percent, any other number as it is."""
    return f"{100 * value:.1f}" if data.higher_is_better else f"{value:.2f}"


def _scores(evaluation: Evaluation, protocol: str) -> Iterator[str]:
    data = {each.name: each for each in evaluation.data}
    rows = [row for row in evaluation.scores if row.protocol == protocol]
    names = [model.name for model in evaluation.models]
    yield f"{protocol}:"
    table = [["data", "metric", "tested on", *map(printable, names)]]
    by_place = {(row.data, row.model): row for row in rows}
    for name in dict.fromkeys(row.data for row in rows):
        cells = [_cell(by_place[name, model], data[name]) for model in names]
        table.append([printable(name), data[name].metric, f"{data[name].num_test:,}", *cells])
    shares = [name for name in dict.fromkeys(row.data for row in rows) if data[name].higher_is_better]
    if len(shares) > 1:
        means = [sum(by_place[name, model].mean for name in shares) / len(shares) for model in names]
        table.append(["mean", "", "", *(f"{100 * mean:.1f}" for mean in means)])
    yield from (f"  {line}" for line in _rows(table))


def _cell(row: Scored, data: EvaluatedData) -> str:
    value = shown(row.mean, data)
    if row.spread is not None:
        value += f" ± {shown(row.spread, data)}"
    if row.change is not None:
        value += f" ({'+' if row.change >= 0 else '−'}{shown(abs(row.change), data)})"
    return value


def _compared(row: Compared) -> list[str]:
    what = "all together" if row.data is None else row.data
    return [printable(row.model), row.protocol, printable(what), row.verdict, row.reason]


def _rows(table: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
