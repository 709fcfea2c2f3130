"""Options of `coldfuse certs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class CertsOptions:
    """Make a private authority, and certificates for gateways and, where they are to be asked for one, for clients.

    Run it again to renew what has less than a third of its life left; the authority stays. With neither --host nor
    --client all that the folder has is looked at. Gateways and nodes take up new files by themselves.

    Example: coldfuse certs ./certs --host gateway.example.org --host 192.0.2.7 --client ada
    """

    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The authority's folder; its key stays here.", show_default=False)
    ]
    host: Annotated[
        list[str],
        typer.Option("--host", help="A name or IP address that callers call the gateway by; as often as needed."),
    ] = field(default_factory=list)
    client: Annotated[
        list[str],
        typer.Option("--client", help="A contributor or consumer, for a gateway with --tls-ca; as often as needed."),
    ] = field(default_factory=list)
    name: Annotated[
        str, typer.Option(help="Name of the gateway's files, for one of several gateways that has its own.")
    ] = "gateway"
    days: Annotated[int, typer.Option(min=1, max=825, help="How long certificates live.")] = 90
    renew: Annotated[bool, typer.Option("--renew", help="Make new ones in any case.")] = False
