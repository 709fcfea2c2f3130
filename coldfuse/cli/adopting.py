"""Giving a root to a federation that was made before there were keys."""

from __future__ import annotations

import typer

from coldfuse.cli.founding import begun_in, finish, founders, say_keys
from coldfuse.cli.options.gate import GateWords
from coldfuse.cli.options.keep import KeepWords
from coldfuse.cli.options.operator import InitOptions
from coldfuse.core.names import shown
from coldfuse.errors import FederationError
from coldfuse.registry.adoption import adopt
from coldfuse.registry.settings import read_settings
from coldfuse.storage import open_store


def adopt_federation(options: InitOptions) -> None:
    """Found a federation that is there on new keys, with its history as it is."""
    if options.base is not None or options.share is not None:
        raise typer.BadParameter("--adopt takes a federation as it is; leave --base and --share out")
    if options.is_auditable:
        raise typer.BadParameter(
            "--auditable is decided before anybody contributes; a federation that is adopted is not"
        )
    if options.gating != GateWords():
        raise typer.BadParameter("--adopt takes a federation as it is; give it a gate with coldfuse set afterwards")
    if options.weighting is not None or options.keep != KeepWords():
        raise typer.BadParameter("--adopt takes a federation as it is; --weighting and --keep are for coldfuse set")
    store = open_store(options.store)
    if read_settings(store)[0].root is not None and begun_in(store) is None:
        raise FederationError(f"{options.store}: has a root already; coldfuse keys show {options.store} shows it")
    folder, keys = founders(store, is_open=options.is_open, key=options.key)
    settings = adopt(store, keys).settings
    finish(folder, store, options.store)
    before = settings.adopted
    typer.echo(f"adopted {shown(settings.name, settings.display_name)} in {options.store}: what is new is signed")
    if before is not None:
        typer.echo(
            f"not signed, and said to be so: releases up to {before.release}, rounds up to {before.round}; who "
            "contributes joins with a token of coldfuse enroll"
        )
    say_keys(options.store, folder, is_open=options.is_open)
