"""What an operator says of when a round closes and of who is late, as rules."""

from __future__ import annotations

from typing import Any

import typer

from coldfuse.cli.options.closing import ClosingWords
from coldfuse.cli.units import parse_duration
from coldfuse.core.staleness import MAX_STALENESS

NEW_FEDERATION = {"close": "active", "grace_s": 10.0, "late": "rebase", "staleness": "polynomial(a=0.5)"}
"""Rules of a new federation, where its operator says nothing else. Who contributed lately is waited for, so that nobody
is always late for being slower than the quorum; as nobody knows at first who that is, a round is open for ten seconds
at least, whatever comes. And what is late all the same counts, the less the older its base is: nothing that somebody
has trained is lost."""

_ASYNCHRONOUS = NEW_FEDERATION | {"close": "quorum", "grace_s": 0.0, "max_staleness": MAX_STALENESS}


def rules_of(words: ClosingWords) -> dict[str, Any]:
    """Return the rules that were spoken of, as `RoundRules` has them; what they may be is checked there.

    Raises:
        UserInputError: A duration is none.
    """
    given = {
        "close": words.close,
        "grace_s": None if words.grace is None else parse_duration(words.grace, may_be_zero=True),
        "max_grace_s": None if words.max_grace is None else parse_duration(words.max_grace),
        "spread": words.grace_spread,
        "late": words.late,
        "staleness": words.staleness,
        "max_staleness": words.max_staleness,
    }
    said: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if words.publish_every is None:
        return said
    if clash := sorted({"close", "late"} & said.keys()):
        raise typer.BadParameter(f"--publish-every says what --{clash[0]} is; give one of them")
    return {**_ASYNCHRONOUS, **said, "quorum": words.publish_every}
