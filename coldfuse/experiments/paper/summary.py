"""What an experiment found, for people: what was run on what, the table, and how it was on single data sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from coldfuse.experiments.paper.about import about
from coldfuse.experiments.paper.results import as_table, by_set
from coldfuse.experiments.paper.runner import Given, Ran
from coldfuse.experiments.paper.values import Experiment, Sizes


def summary(experiment: Experiment, sizes: Sizes, given: Given, ran: Ran, *, command: str) -> list[str]:
    """Return the lines of a Markdown file.

    Args:
        experiment: What was run.
        sizes: How large.
        given: On what.
        ran: What came of it.
        command: The command that was given.
    """
    settings = ", ".join(f"{name} {value}" for name, value in asdict(sizes).items())
    versions = ", ".join(f"{name} {value}" for name, value in about().items())
    missing = ran.num_wanted - len(ran.rows)
    return [
        f"# {experiment.title}",
        "",
        experiment.asks,
        f"The paper: {experiment.source}.",
        "",
        *([f"**Not finished: {missing} of {ran.num_wanted} scores are missing.**", ""] if missing else []),
        *as_table(ran.rows),
        "",
        "Accuracy on test sets in percent, mean over data sets and folds; ± is the standard deviation over seeds, – "
        "where one has been run.",
        "",
        *by_set(ran.rows),
        "",
        "![figure](figure.png)",
        "",
        f"- Command: `{command}`",
        f"- Base: {given.base.name}, digest {ran.base_digest}",
        *_pretraining(given.base, ran),
        f"- Data sets: {', '.join(ran.data_digests)}",
        f"- Settings: {settings}",
        f"- With: {versions}",
        f"- Seconds of this call: {ran.seconds:.0f}; what was kept from earlier calls is not counted",
    ]


def _pretraining(base: Path, ran: Ran) -> list[str]:
    """Say which of the data sets' texts a base has read, where a pretraining left a note of it."""
    path = base.parent / "pretraining.json"
    if not path.is_file():
        return []
    note: Mapping[str, object] = json.loads(path.read_bytes())
    if note.get("digest") != ran.base_digest:
        return []
    read = [name for name in ran.data_digests if name in list(note.get("sets", []))]  # type: ignore[call-overload]
    return [
        f"- Pretraining: {json.dumps(note.get('settings'))}, perplexity {note.get('perplexity')}",
        f"- Texts of these data sets it has read, without labels: {', '.join(read) or 'none'}",
    ]
