"""Options on channels, and on who is told what happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import AsJson, Store
from coldfuse.cli.options.trust import OperatorKey

_PANEL = "Channels and webhooks"

_BY = typer.Option(help="Who makes the change, for the history; your user and machine by default.")

_STABLE_AFTER = typer.Option(
    help="When the channel stable follows by itself: after so many releases made of one (3), or when it has been out "
    "for so long (24h), without a rollback; off: by coldfuse promote alone.",
    rich_help_panel=_PANEL,
)


@dataclass(frozen=True, kw_only=True)
class ChannelWords:
    """When the channel `stable` follows; None: not spoken of."""

    stable_after: Annotated[str | None, _STABLE_AFTER] = None


@dataclass(frozen=True, kw_only=True)
class ChannelChange(ChannelWords):
    """The same for a running federation, and who is told what happens."""

    webhook: Annotated[
        list[str],
        typer.Option(
            "--webhook",
            metavar="URL",
            help="Tell this address, which everybody can read, of closed rounds, releases and rollbacks, as signed "
            "CloudEvents; may be repeated.",
            rich_help_panel=_PANEL,
        ),
    ] = field(default_factory=list)
    no_webhook: Annotated[
        list[str],
        typer.Option(
            "--no-webhook", metavar="URL", help="Tell this address nothing any more, or all.", rich_help_panel=_PANEL
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Telling:
    """How an aggregator tells webhooks."""

    webhook_secret: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File with the secret by which webhooks are signed (whsec_ and base64; an older one after it while "
            "receivers change over); systemd's credential coldfuse-webhook, or the variable COLDFUSE_WEBHOOK_SECRET by "
            "default.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    webhook_private: Annotated[
        bool,
        typer.Option(
            "--webhook-private",
            help="Allow webhooks on this machine and in private networks.",
            rich_help_panel=_PANEL,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class RollbackOptions:
    """Put the federation back to an older release. Nothing is removed; the next round is on that release.

    The round that runs ends, whoever has contributed to it sends again, and nodes and readers follow. What was made
    since stays readable; the next release gets a new number.

    Example: coldfuse rollback ./federation --to 11 --reason "worse on every set"
    """

    store: Store
    to: Annotated[int, typer.Option("--to", min=0, help="Number of the release to go back to.", show_default=False)]
    reason: Annotated[str | None, typer.Option(help="Why, which everybody is told.")] = None
    by: Annotated[str | None, _BY] = None
    even_retracted: Annotated[
        bool,
        typer.Option("--even-retracted", help="Go back even to a release that was made with what was retracted since."),
    ] = False
    as_json: AsJson = False
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class PromoteOptions:
    """Point the channel stable to a release that has proved itself; readers follow it with fetch --channel stable.

    Example: coldfuse promote ./federation 12
    """

    store: Store
    release: Annotated[
        int | None, typer.Argument(min=0, help="Number of the release; the latest by default.", show_default=False)
    ] = None
    channel: Annotated[
        Literal["stable"], typer.Option(help="The channel; latest is moved by rounds and by rollback alone.")
    ] = "stable"
    as_json: AsJson = False
    signing: OperatorKey = field(default_factory=OperatorKey)
