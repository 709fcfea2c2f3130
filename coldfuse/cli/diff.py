"""How far a model moved and who moved it, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import typer

from coldfuse.api.bars import is_watched, watching
from coldfuse.api.diff import compare_in
from coldfuse.api.diff import diff as compare
from coldfuse.cli.options.history import DiffOptions
from coldfuse.cli.source import connect
from coldfuse.core.left_out import left_out_lines
from coldfuse.core.words import plural, printable
from coldfuse.extras import requiring
from coldfuse.movement.compare import Movement, Mover
from coldfuse.movement.found import Moved
from coldfuse.registry.settings import SETTINGS_KEY

_MOST_COLUMNS = 6
"""Number of contributions whose shares are shown layer by layer; more are shown in all alone."""

_MOST_CHARS = 40
"""Length at which a name is cut in a table."""

_EXACT = "shares of the change; they add up to it, but for what rounding dropped"
_ALONG = "how far each delta goes along the change: 1 would have made it alone; the method is not linear in the deltas"


def diff(options: DiffOptions) -> None:
    """Compare two releases, or two models."""
    movement = _compare(options)
    if options.plot is not None:
        with requiring("coldfuse diff --plot", "demo", at_once=("matplotlib",)):
            from coldfuse.cli.diff_plot import plot  # noqa: PLC0415 - matplotlib comes with it

            plot(movement, options.plot)
    if options.as_json:
        typer.echo(json.dumps(as_json(movement)))
        return
    for line in lines(movement, by_tensor=options.tensors):
        typer.echo(line)


def _compare(options: DiffOptions) -> Movement:
    is_shown = is_watched() and not options.as_json
    if options.other is not None:
        if options.since is not None or options.release is not None:
            raise typer.BadParameter("--from and --to are for the releases of a federation; leave them or B out")
        return compare(options.source, options.other, progress=is_shown)
    place = Path(options.source)
    if (place / "config.json").is_file() and not (place / SETTINGS_KEY).exists():
        raise typer.BadParameter(f"{options.source} is a model; give the model to compare it with, or a federation")
    with connect(options.source, options.connection) as gateway, watching("comparing", is_shown) as progress:
        return compare_in(gateway, options.source, options.release, since=options.since, progress=progress)


def as_json(movement: Movement) -> Mapping[str, object]:
    """Return what was found as JSON has it; shares stand in the order of the contributions."""
    names = [mover.contribution for mover in movement.movers]
    return {
        "before": movement.before,
        "after": movement.after,
        "total": movement.total.as_json(names),
        "layers": {name: moved.as_json(names) for name, moved in movement.layers.items()},
        "tensors": {name: moved.as_json(names) for name, moved in movement.tensors.items()},
        "contributions": [
            {
                "contribution": mover.contribution, "contributor": mover.contributor,
                "display_name": mover.display_name, "release": mover.release, "is_exact": mover.is_exact,
                "unreadable": mover.unreadable,
            }
            for mover in movement.movers
        ],
        "rest": movement.rest(movement.total),
        "why_not_who": movement.why_not,
        "steps": [
            {
                "release": step.release, "total": step.moved.as_json(),
                "layers": {name: moved.as_json() for name, moved in step.layers.items()},
            }
            for step in movement.steps
        ],
        "left_out": [{"what": one.what, "names": list(one.names), "why": one.why} for one in movement.left_out],
        "differing": list(movement.differing),
        "skipped_bytes": movement.skipped_bytes,
        "read_bytes": movement.read_bytes,
    }  # fmt: skip


def lines(movement: Movement, *, by_tensor: bool) -> Iterator[str]:
    """Yield what people read."""
    yield f"{movement.before} → {movement.after}: {plural(movement.total.num_elements, 'number')}"
    columns = _columns(movement)
    rows = {**(movement.tensors if by_tensor else movement.layers), "in all": movement.total}
    yield from _table([_header(columns), *(_row(name, moved, columns) for name, moved in rows.items())])
    if movement.differing:
        names = ", ".join(printable(name[:200]) for name in movement.differing[:5])
        yield f"not the same in both, and no floats: {names}{' and more' if len(movement.differing) > 5 else ''}"
    yield from left_out_lines(movement.left_out)
    yield from _steps(movement)
    yield from _who(movement, columns)


def _columns(movement: Movement) -> Sequence[Mover]:
    readable = [mover for mover in movement.movers if mover.unreadable is None]
    return readable if len(readable) <= _MOST_COLUMNS else []


def _header(columns: Sequence[Mover]) -> list[str]:
    several = len({mover.release for mover in columns}) > 1
    names = (_short(f"{mover.release}: {mover.who}" if several else mover.who) for mover in columns)
    return ["", "moved", "of its weights", "changed", "along before", *names]


def _row(name: str, moved: Moved, columns: Sequence[Mover]) -> list[str]:
    return [
        printable(name[:200]), f"{moved.distance:.4g}", _percent(moved.relative), _percent(moved.changed),
        "-" if moved.cosine is None else f"{moved.cosine:+.3f}",
        *(_percent(moved.share(mover.contribution)) for mover in columns),
    ]  # fmt: skip


def _steps(movement: Movement) -> Iterator[str]:
    if not movement.steps:
        return
    yield "release by release:"
    rows = [_row(f"release {step.release}", step.moved, ()) for step in movement.steps]
    yield from _table([_header(()), *rows])


def _who(movement: Movement, columns: Sequence[Mover]) -> Iterator[str]:
    if movement.why_not is not None:
        yield f"who moved it: {movement.why_not}"
        return
    if not movement.movers:
        yield "who moved it: nobody, by its manifest"
        return
    yield f"who moved it: {_EXACT if movement.is_exact else _ALONG}"
    if not columns:
        readable = [mover for mover in movement.movers if mover.unreadable is None]
        ranked = sorted(readable, key=lambda mover: -(movement.total.share(mover.contribution) or 0.0))
        yield from _table([
            [_short(mover.who), f"release {mover.release}", mover.contribution[:12],
             _percent(movement.total.share(mover.contribution))]
            for mover in ranked
        ])  # fmt: skip
    for mover in movement.movers:
        if mover.unreadable is not None:
            yield f"not known of {mover.who} ({mover.contribution[:12]}): {printable(mover.unreadable)}"
    rest = movement.rest(movement.total)
    if rest is not None:
        is_whole = all(mover.unreadable is None for mover in movement.movers)
        what = "what rounding dropped" if is_whole else "what cannot be read, and what rounding dropped"
        yield f"by none of these: {_percent(rest)}, {what}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g} %"


def _short(name: str) -> str:
    return name if len(name) <= _MOST_CHARS else f"{name[: _MOST_CHARS - 1]}…"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as aligned lines: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
