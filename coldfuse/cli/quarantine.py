"""Shut a contributor out of a federation, and let it in again."""

from __future__ import annotations

import json

import typer

from coldfuse.api.values import when
from coldfuse.cli.options.operator import QuarantineOptions, ReadmitOptions
from coldfuse.cli.who import who
from coldfuse.config import home_folder
from coldfuse.core.names import Identity
from coldfuse.core.quarantine import QuarantineChange
from coldfuse.core.words import printable
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.quarantine import list_quarantine_changes, read_quarantine, write_quarantine
from coldfuse.storage import open_store


def quarantine(options: QuarantineOptions) -> None:
    """Shut a name out; without one, say who is shut out and what was changed."""
    federation = open_federation(open_store(options.store), home=home_folder())
    if options.name is None:
        if options.reason:
            raise typer.BadParameter("say whom: coldfuse quarantine STORE NAME --reason WHY")
        _list(federation, as_json=options.as_json)
        return
    name, reason = Identity.of(options.name).id, printable(options.reason or "no reason given")
    change = write_quarantine(federation.store, name, is_out=True, reason=reason, by=who(options.by))
    _say(change, f"{name} is quarantined already, for this reason", as_json=options.as_json)


def readmit(options: ReadmitOptions) -> None:
    """Let a name in again."""
    federation = open_federation(open_store(options.store), home=home_folder())
    name = Identity.of(options.name).id
    if name not in read_quarantine(federation.store).names:
        raise UserInputError(f"{name} is not quarantined; `coldfuse quarantine {options.store}` lists who is")
    reason = printable(options.reason or "")
    change = write_quarantine(federation.store, name, is_out=False, reason=reason, by=who(options.by))
    _say(change, f"{name} is not quarantined", as_json=options.as_json)


def _say(change: QuarantineChange | None, nothing: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"changed": change and change.model_dump()}))
    elif change is None:
        typer.echo(f"nothing to change: {nothing}")
    else:
        what = "what it sends is rejected from now on" if change.is_out else "what it sends is taken from now on"
        typer.echo(f"{change}; {what}")


def _list(federation: Federation, *, as_json: bool) -> None:
    names, changes = read_quarantine(federation.store).names, list(list_quarantine_changes(federation.store))
    if as_json:
        document = {
            "quarantined": {name: entry.model_dump() for name, entry in names.items()},
            "changes": [change.model_dump() for change in changes],
        }
        typer.echo(json.dumps(document))
        return
    typer.echo(f"quarantined: {', '.join(sorted(names)) or 'nobody'}")
    for change in changes:
        typer.echo(f"{change.number:>5}  {when(change.changed_at_s)}  {change}, by {printable(change.by)}")
