"""Remove what nothing needs, and say why."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

import typer

from coldfuse.cli.keeping import retention_of
from coldfuse.cli.options.retention import GcOptions
from coldfuse.cli.serving import with_keys
from coldfuse.cli.source import start_on, warn
from coldfuse.core.retention import RetentionRules
from coldfuse.core.words import plural
from coldfuse.gateway.garbage import Garbage, collect, survey
from coldfuse.gateway.leftovers import SETTLE_S


def gc(options: GcOptions) -> None:
    """Collect, or say what would be."""
    federation = start_on(options.store, root=options.holding.root)
    set_ = federation.settings.retention
    rules = retention_of(options.keep, set_) or set_ or RetentionRules()
    found = survey(federation, rules)
    if not options.dry_run and found.num_objects:
        federation = with_keys(federation, options.holding.keys)
        warn(f"waiting {SETTLE_S:.0f} s, so that nothing goes that somebody takes into use now")
        found = collect(federation, rules)
    if options.as_json:
        typer.echo(json.dumps(_document(options, rules, found)))
        return
    for line in _lines(options, rules, found):
        typer.echo(line)


def _lines(options: GcOptions, rules: RetentionRules, found: Garbage) -> Iterator[str]:
    verb = "would be removed" if options.dry_run else "removed"
    for reason in sorted(found.num_objects):
        yield f"{plural(found.num_objects[reason], 'object')}, {found.num_bytes[reason]:,} bytes: {reason}"
    total, size = sum(found.num_objects.values()), sum(found.num_bytes.values())
    yield f"{verb}: {plural(total, 'object')}, {size:,} bytes" if total else f"nothing {verb}: all of it is needed"
    yield f"kept: files of releases {_runs(found.kept.files)}; contributions of releases {_runs(found.kept.deltas)}"
    if options.dry_run:
        yield from (f"kept: {each.what} of releases {_runs(each.releases)}: {each.reason}" for each in found.kept.why)
        yield f"rules: {rules}, {_whose(options)}"
    if rules.keep_releases is not None and rules.keep_deltas is None:
        yield (
            "note: contributions of all releases are kept, and with them the files of every release that another was "
            "fused on; --keep-deltas says how many"
        )


def _whose(options: GcOptions) -> str:
    """Say where the rules are from."""
    given = (options.keep.keep_releases, options.keep.keep_deltas)
    if all(given):
        return "as the options say"
    return (
        "as the federation's settings say, where no option does" if any(given) else "as the federation's settings say"
    )


def _runs(numbers: Collection[int]) -> str:
    """Return numbers as runs.

    >>> _runs([0, 3, 4, 5, 9]), _runs([])
    ('0, 3 to 5, 9', 'none')
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs) or "none"


def _document(options: GcOptions, rules: RetentionRules, found: Garbage) -> dict[str, object]:
    return {
        "removed": not options.dry_run,
        "reasons": {
            reason: {"objects": found.num_objects[reason], "bytes": found.num_bytes[reason]}
            for reason in sorted(found.num_objects)
        },
        "kept_files": sorted(found.kept.files),
        "kept_deltas": sorted(found.kept.deltas),
        "rules": {"keep_releases": rules.keep_releases, "keep_deltas": rules.keep_deltas},
        "why": [
            {"what": each.what, "releases": sorted(each.releases), "reason": each.reason} for each in found.kept.why
        ],
    }
