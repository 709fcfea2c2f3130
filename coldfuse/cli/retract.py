"""Take out what somebody gave, and say which of three things that is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import typer

from coldfuse.aggregator.retract import Retracted, retract
from coldfuse.aggregator.retractable import Given, Plan, find_given, plan_retraction
from coldfuse.cli.options.retention import RetractOptions
from coldfuse.cli.serving import with_keys
from coldfuse.cli.source import start_on
from coldfuse.cli.units import parse_size
from coldfuse.cli.who import who
from coldfuse.core.names import shown
from coldfuse.core.retraction import Retraction
from coldfuse.core.words import plural, printable
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.registry.federation import Federation
from coldfuse.registry.quarantine import write_quarantine

_MAX_REASON_CHARS = 500


def take_out(options: RetractOptions) -> None:
    """Retract, and say what came of it."""
    federation = start_on(options.store, root=options.holding.root)
    reason = printable((options.reason or "retracted")[:_MAX_REASON_CHARS])
    if options.dry_run:
        plan = plan_retraction(federation, options.target, reason=reason, erases=options.delete)
        _say_plan(options, plan, find_given(federation, options.target))
        return
    federation = with_keys(federation, options.holding.keys)
    memory = parse_size(options.memory) if options.memory else None
    executor = ThreadExecutor(options.threads or psutil.cpu_count() or 1, memory_bytes=memory)
    done = retract(federation, options.target, executor, reason=reason, erases=options.delete)
    banned = _ban(federation, done.given, reason) if options.ban else []
    if options.as_json:
        typer.echo(json.dumps(_document(done, banned)))
        return
    for line in _lines(options, done, banned):
        typer.echo(line)


def _ban(federation: Federation, given: Given, reason: str) -> list[str]:
    """Quarantine whoever gave it."""
    names = sorted({one.contributor for one in given.fused})
    for name in names:
        write_quarantine(federation.store, name, is_out=True, reason=reason[:200], by=who(None))
    return names


def _say_plan(options: RetractOptions, plan: Plan | None, given: Given) -> None:
    if options.as_json:
        found = plan.retraction.model_dump(mode="json") if plan else None
        typer.echo(json.dumps({"would": found, "contributions": [one.contribution for one in given.fused]}))
        return
    if plan is None:
        typer.echo(f"{_what(given)}: out of the latest release already")
    else:
        typer.echo(f"{_what(given)}: would be taken out")
        for line in _of_retraction(plan.retraction, parent=plan.parent.release, would=True):
            typer.echo(line)
    if options.delete:
        typer.echo("bytes: its manifests, deltas and statistics that nothing else needs would be erased")
    typer.echo("nothing was done: --dry-run")


def _lines(options: RetractOptions, done: Retracted, banned: list[str]) -> Iterator[str]:
    release = done.release
    if release is None or release.retraction is None:
        yield f"{_what(done.given)}: out of the latest release already"
    else:
        yield f"{_what(done.given)}: taken out, by release {release.release}"
        yield from _of_retraction(release.retraction, parent=release.parent or 0, would=False)
    if done.erased is None:
        yield f"bytes: kept in the store; coldfuse retract {options.store} {options.target} --delete erases them"
    else:
        spared = f"; {plural(done.erased.num_spared, 'object')} stay, which something else needs"
        yield (
            f"bytes: erased, {plural(done.erased.num_objects, 'object')}, {done.erased.num_bytes:,} bytes"
            f"{spared if done.erased.num_spared else ''}; a tombstone without a name stays"
        )
        yield (
            "what stays: the name in journals and in the manifests of the releases that held it, which are signed as "
            "they are, and those releases themselves"
        )
    for name in banned:
        yield f"{name} is quarantined: what it sends is rejected from now on"
    if release is not None:
        yield f"digest {release.model_digest}"


def _of_retraction(retraction: Retraction, *, parent: int, would: bool) -> Iterator[str]:
    steps = [step for step in retraction.steps if step.num_fused]
    rounds = ", ".join(str(step.round) for step in steps) or "none, nothing is left of any"
    are = "would be" if would else "are"
    yield (
        f"release {retraction.release} {'would take' if would else 'takes'} the place of {retraction.replaces}, on "
        f"release {parent}; rounds that {are} fused again: {rounds}"
    )
    yield "fusion: out of it, exactly"
    if retraction.influence == "none":
        yield "influence: none is left, as nothing that is fused was trained on a base that held it"
    else:
        count = plural(retraction.num_influenced, "contribution")
        yield f"influence: not out of it: {count} that {are} fused had been trained on a base that held it"


def _what(given: Given) -> str:
    names = sorted({shown(one.contributor, one.display_name) for one in given.fused})
    said = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{plural(len(given.fused), 'contribution')} of {said}"


def _document(done: Retracted, banned: list[str]) -> dict[str, object]:
    release, erased = done.release, done.erased
    return {
        "release": release.release if release else None,
        "parent": release.parent if release else None,
        "model_digest": release.model_digest if release else None,
        "retraction": release.retraction.model_dump(mode="json") if release and release.retraction else None,
        "contributions": [one.contribution for one in done.given.fused],
        "erased": None
        if erased is None
        else {"objects": erased.num_objects, "bytes": erased.num_bytes, "spared": erased.num_spared},
        "quarantined": banned,
    }
