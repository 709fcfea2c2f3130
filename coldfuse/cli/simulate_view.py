"""What simulations found, in text: lines of Markdown, so that they can be kept as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coldfuse.simulation.report import LoadReport

if TYPE_CHECKING:
    from coldfuse.experiments.adversaries import Cell, Trial


def load_lines(report: LoadReport) -> list[str]:
    """Say what became of a federation under load."""
    found = report.audit
    rows = {
        "contributors": f"{report.contributors}, of which {report.hostile} hostile and {report.late} late",
        "visits": _counts(report.ends),
        "acknowledged": f"{found.num_acknowledged}: {found.num_admitted} admitted, {found.num_rejected} rejected, "
        f"{found.num_without_verdict} without a verdict, {found.num_with_two} with two",
        "contributions a second": f"{report.acknowledged_per_s:g}",
        "commit to acknowledgement": _spread(report.commit_p50_ms, report.commit_p99_ms),
        "connection to acknowledgement": _spread(report.visit_p50_ms, report.visit_p99_ms),
        "repeated": _counts(report.repeated) or "nothing",
        "store operations a contribution": f"gateways {report.gateway_operations:g}, "
        f"aggregator {report.aggregator_operations:g}",
        **{f"operations, {who}": _counts(counts) for who, counts in report.operations.items()},
        "processor time a contribution": f"gateways {report.gateway_cpu_ms:g} ms, "
        f"aggregator {report.aggregator_cpu_ms:g} ms",
        "files a contribution": f"{report.files:g}",
        **{f"memory, {m.name}": f"{m.start_mib:g} → {m.end_mib:g} MiB, peak {m.peak_mib:g}" for m in report.memory},
        "took": f"{report.took_s:g} s on {report.cpus} processors, load {report.load_before:g} before",
    }
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows.items()), ""]
    lines += ["| round | ended | closed after | in time | released after | admitted | rejected | why |"]
    lines += ["| ---: | --- | ---: | --- | ---: | ---: | ---: | --- |"]
    lines += [
        f"| {r.number} | {r.ended} | {_seconds(r.closed_after_s)} | {'yes' if r.in_time else 'NO'} | "
        f"{_seconds(r.released_after_s)} | {r.admitted} | {r.rejected} | {r.reason[:160]} |"
        for r in report.rounds
    ]
    return [
        *lines,
        *(["", "rejected because:"] if found.reasons else []),
        *(f"- {n} × {why}" for why, n in found.reasons.items()),
    ]


def attack_lines(trial: Trial) -> list[str]:
    """Say how accurate the methods are under the attacks, in percent; behind a slash how often a back door opens."""
    attacks = list(dict.fromkeys(cell.attack for cell in trial.cells))
    methods = list(dict.fromkeys(cell.method for cell in trial.cells))
    cells = {(cell.attack, cell.method, cell.screening): cell for cell in trial.cells}
    lines = [
        f"{trial.num_hostile} of {trial.num_contributors} contributors are hostile, seed {trial.seed}; the base has "
        f"{100 * trial.base_accuracy:.1f}. Accuracy in percent, all / screened; in "
        "brackets how often a back door opens.",
        "",
        _row(["attack", *methods]),
        _row(["---", *["---:"] * len(methods)]),
    ]
    for attack in attacks:
        pairs = [[cells[attack, method, screening] for screening in (False, True)] for method in methods]
        lines.append(_row([attack, *(" / ".join(map(_cell, pair)) for pair in pairs)]))
    lines += ["", _row(["attack", "hostile rejected", "benign rejected", "why"]), _row(["---", "---:", "---:", "---"])]
    lines += [
        _row(
            [
                r.attack,
                f"{r.hostile_rejected} of {r.hostile}",
                f"{r.benign_rejected} of {r.benign}",
                "; ".join(r.reasons),
            ]
        )
        for r in trial.rejections
    ]
    return lines


def _cell(cell: Cell) -> str:
    if cell.accuracy is None:
        return "refused"
    return f"{100 * cell.accuracy:.1f}" + ("" if cell.success is None else f" ({100 * cell.success:.0f})")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _spread(p50_ms: float, p99_ms: float) -> str:
    return f"median {p50_ms:g} ms, 99 of 100 within {p99_ms:g} ms"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
