"""Options of the operator's commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.closing import ClosingWords
from coldfuse.cli.options.shared import AsJson, RecipeChange, RecipeWords, Store

_NAME = typer.Option(help="The federation's name, of any script.")
_QUORUM = typer.Option(min=1, help="Admitted contributions that let a round close.")
_DEADLINE = typer.Option(help="After so long a round without a quorum is abandoned (90s, 15m, 2h).")


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Create a federation from a base model.

    Example: coldfuse init ./federation --base ./all-MiniLM-L6-v2 --quorum 4 --deadline 2h
    """

    store: Store
    base: Annotated[
        str, typer.Option(help="The pretrained model: a Hugging Face folder or hub id.", show_default=False)
    ]
    name: Annotated[str, _NAME] = "federation"
    recipe: RecipeWords = field(default_factory=RecipeWords)
    quorum: Annotated[int, _QUORUM] = 2
    deadline: Annotated[str, _DEADLINE] = "15m"
    closing: ClosingWords = field(default_factory=ClosingWords)


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """Change the rules of a running federation. They hold from the next round; a round keeps those it was opened with.

    What is not given stays. Gateways and aggregators take it up by themselves; `coldfuse releases STORE` shows who
    changed what.

    Example: coldfuse set ./federation --quorum 4 --deadline 2h
    """

    store: Store
    name: Annotated[str | None, _NAME] = None
    recipe: RecipeChange = field(default_factory=RecipeChange)
    quorum: Annotated[int | None, _QUORUM] = None
    deadline: Annotated[str | None, _DEADLINE] = None
    closing: ClosingWords = field(default_factory=ClosingWords)
    by: Annotated[
        str | None, typer.Option(help="Who makes the change, for the history; your user and machine by default.")
    ] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where a gateway listens, and to whom."""

    listen: Annotated[str, typer.Option(help="Where the gateway listens; port 0: the system picks one.")] = (
        "127.0.0.1:0"
    )
    tls_cert: Annotated[
        Path | None, typer.Option(help="The gateway's certificate, PEM. Needed for other addresses than loopback.")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None
    tls_ca: Annotated[Path | None, typer.Option(help="Ask callers for a certificate of this authority, PEM.")] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow plain text on an address that other machines reach.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Fusing:
    """Where an aggregator fuses."""

    ray_address: Annotated[
        str | None,
        typer.Option(help="Join this Ray cluster (host:port or auto); without it, one is started here."),
    ] = None
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processors for a Ray that is started here; all by default.")
    ] = None
    memory: Annotated[
        str | None, typer.Option(help="Memory for the workers of one machine, 2GiB; an eighth of it by default.")
    ] = None
    lease: Annotated[str, typer.Option(help="Another aggregator takes over from one that was silent for so long.")] = (
        "10s"
    )


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """Serve contributors and consumers over gRPC; as many gateways on one store as wanted.

    Example: coldfuse gateway s3://models/federation --listen 0.0.0.0:7700 --tls-cert gw.pem --tls-key gw.key
    """

    store: Store
    listening: Listening = field(default_factory=Listening)
    max_streams: Annotated[
        int, typer.Option(min=1, help="Uploads at a time, and as many downloads; a few MiB each.")
    ] = 128


@dataclass(frozen=True, kw_only=True)
class AggregatorOptions:
    """Screen, fuse and publish, round after round, on Ray. A second one on the same store waits, and takes over.

    Example: coldfuse aggregator s3://models/federation --ray-address auto
    """

    store: Store
    fusing: Fusing = field(default_factory=Fusing)
    rounds: Annotated[
        int | None, typer.Option(min=1, help="End after this many releases; until stopped by default.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Run a gateway and an aggregator together, until stopped.

    Example: coldfuse serve ./federation --listen 127.0.0.1:7700
    """

    store: Store
    listening: Listening = field(default_factory=Listening)
    fusing: Fusing = field(default_factory=Fusing)
