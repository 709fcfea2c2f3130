"""Options on channels, and on who is told what happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

_PANEL = "Channels and webhooks"

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
