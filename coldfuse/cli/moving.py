"""Move a federation's channels: back to an older release, and stable to one that has proved itself."""

from __future__ import annotations

import json
from dataclasses import dataclass

import typer

from coldfuse.cli.holding import Holding, hold
from coldfuse.cli.options.channels import PromoteOptions, RollbackOptions
from coldfuse.cli.options.trust import OperatorKey
from coldfuse.cli.who import who
from coldfuse.config import home_folder
from coldfuse.errors import StorageError, TrustError, UserInputError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.handover import signer_of_channels
from coldfuse.registry.moving import STABLE, Step, follow_back, plan_promotion, plan_rollback, promote, roll_back
from coldfuse.registry.proposals import Document, arrange
from coldfuse.registry.rollbacks import keep_rollback
from coldfuse.registry.settings import read_settings
from coldfuse.storage import open_store
from coldfuse.trust.keys import Signer

_AHEAD_S = 86400.0
"""Seconds for which other operators can sign a step, however often the aggregator renews the channel meanwhile."""


@dataclass(frozen=True)
class _Mover:
    """Who moves a channel."""

    federation: Federation
    signer: Signer | None = None
    """Signs a channel alone; None where there is no root, or others have to sign, too."""
    holding: Holding | None = None
    """What an operator holds, where there is a root."""

    def propose(self, name: str, step: Step, signing: OperatorKey) -> bool:
        """Leave it to other operators to sign, too; True where that was not needed, and it is done."""
        if self.holding is None:
            raise UserInputError("there is no root: nobody has to sign")
        channel = self.federation.pointers.to_sign(name, step.target, step.before, ahead_s=_AHEAD_S)
        signers = self.holding.signers("operator", signing)
        return self.holding.carry_out(arrange([Document.of("channel", channel)]), signers)

    @property
    def needs_others(self) -> bool:
        """Whether nobody here can sign alone."""
        return self.holding is not None and self.signer is None


def rollback(options: RollbackOptions) -> None:
    """Put the federation back to an older release."""
    mover = _mover(options.store, options.signing)
    federation, reason, by = mover.federation, options.reason or "", who(options.by)
    even = options.even_retracted
    if mover.needs_others:
        step = plan_rollback(federation, options.to, reason=reason, by=by, even_retracted=even)
        if not mover.propose("latest", step, options.signing):
            return
        keep_rollback(federation.store, federation.trust)
        written = step.target
    else:
        written = roll_back(
            federation, options.to, reason=reason, by=by, signer=mover.signer, even_retracted=even
        )  # fmt: skip
    stable = _follow(federation, mover.signer)
    done = written.rollback
    if options.as_json:
        typer.echo(json.dumps({"rollback": done and done.model_dump(), "stable": stable}))
        return
    typer.echo(f"{done}; number {written.newest + 1} comes next")
    typer.echo(f"round {written.last_round} and those before are over; whoever has contributed to one sends it again")
    if stable is not None:
        typer.echo(f"stable is release {stable} now")


def promotes(options: PromoteOptions) -> None:
    """Point a channel to a release."""
    mover = _mover(options.store, options.signing)
    federation = mover.federation
    if mover.needs_others:
        step = plan_promotion(federation, options.release)
        if not step.is_done and not mover.propose(STABLE, step, options.signing):
            return
        now, was = step.target, step.was
    else:
        now, was = promote(federation, options.release, signer=mover.signer)
    was_number = was.release if was else None
    if options.as_json:
        typer.echo(json.dumps({"channel": options.channel, "release": now.release, "was": was_number}))
    elif was_number == now.release:
        typer.echo(f"nothing to change: {options.channel} is release {now.release} already")
    else:
        typer.echo(f"{options.channel} is release {now.release}" + ("" if was is None else f", it was {was_number}"))


def _follow(federation: Federation, signer: Signer | None) -> int | None:
    """Take stable back, too, and return to where; None where it has not to move, or that is left to the leader."""
    try:
        return follow_back(federation, signer=signer)
    except (StorageError, TrustError) as error:  # what was asked for is done
        typer.echo(f"coldfuse: stable is still to follow, which the aggregator does: {error}", err=True)
        return None


def _mover(url: str, signing: OperatorKey) -> _Mover:
    store = open_store(url)
    if read_settings(store)[0].root is None:
        return _Mover(open_federation(store, home=home_folder()))
    holding = hold(url, root=signing.root)
    federation = open_federation(store, fingerprint=holding.known.fingerprint, home=home_folder())
    return _Mover(federation, signer_of_channels(holding.known.root, holding.signers("operator", signing)), holding)
