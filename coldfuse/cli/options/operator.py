"""Options of the operator's commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.channels import ChannelChange, ChannelWords, Telling
from coldfuse.cli.options.closing import ClosingWords
from coldfuse.cli.options.gate import GateWords
from coldfuse.cli.options.keep import KeepWords
from coldfuse.cli.options.shared import AsJson, RecipeChange, Store, UsualRecipe
from coldfuse.cli.options.trust import OperatorKey
from coldfuse.core.scored_weights import Weighting

_NAME = typer.Option(help="The federation's name, of any script.")
_QUORUM = typer.Option(min=1, help="Admitted contributions that let a round close.")
_DEADLINE = typer.Option(help="After so long a round without a quorum is abandoned (90s, 15m, 2h).")
_SCREENING = typer.Option(
    help="Whether contributions are judged by each other: lengths, copies and what they claim (strict), or taken if "
    "they are sound by themselves (off)."
)
_STATISTICS = typer.Option(
    help="For a method that looks at statistics (regmean, fisher, precision): whether a contribution without them is "
    "rejected (require), or counts as one whose data say the same of everything (optional)."
)
_WEIGHTING = typer.Option(
    help="For a method that looks at weights (weighted-mean): multiply each contribution's by what the aggregator's "
    "suites (coldfuse aggregator --suite) find it worth, by a third to three times: validation (how much better the "
    "base is with it alone), or leave-one-out (how much worse all are without it). That many more models are fused and "
    "scored a round, up to 128; few examples score at random. Evaluators are not heard. Without suites all "
    "count as ever, and the journal says so. none: the method's own weights alone. A new federation: none."
)
_BY = typer.Option(help="Who makes the change, for the history; your user and machine by default.")


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Create a federation from a base model. Its keys are made in your own folder; members are invited by `enroll`.

    Example: coldfuse init ./federation --base ./all-MiniLM-L6-v2 --quorum 4 --deadline 2h
    """

    store: Store
    base: Annotated[
        str | None, typer.Option(help="The pretrained model: a Hugging Face folder or hub id.", show_default=False)
    ] = None
    is_open: Annotated[
        bool,
        typer.Option(
            "--open",
            help="For laboratories: any key may contribute, and a name belongs to the first key that used it.",
        ),
    ] = False
    is_adopted: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Give a federation of before there were keys a root, with its history as it is; no --base."
        ),
    ] = False
    is_auditable: Annotated[
        bool,
        typer.Option(
            "--auditable",
            help="Every member may read the contributions that went into a release, so that all can fuse it again; by "
            "default what is contributed stays with who can read the store.",
        ),
    ] = False
    key: Annotated[
        str | None,
        typer.Option(
            help="The operator's private key, a file (PEM or OpenSSH's) or a URI (hsm:, awskms:, gcpkms:, azurekms:, "
            "hv:, file2:); a new one by default."
        ),
    ] = None
    share: Annotated[
        str | None,
        typer.Option(
            help="Share a module alone, on the base as a frozen body that everybody has: lora(rank=16), dora, ia3, "
            "prompt(tokens=20), prefix, or patterns of the base's tensors such as classifier.*; the whole model by "
            "default."
        ),
    ] = None
    base_digest: Annotated[
        str | None,
        typer.Option(help="With --share: the base's model digest, where it is known; else the base is read once."),
    ] = None
    name: Annotated[str, _NAME] = "federation"
    recipe: UsualRecipe = field(default_factory=UsualRecipe)
    quorum: Annotated[int, _QUORUM] = 2
    deadline: Annotated[str, _DEADLINE] = "15m"
    screening: Annotated[Literal["strict", "off"], _SCREENING] = "strict"
    statistics: Annotated[Literal["require", "optional"], _STATISTICS] = "require"
    weighting: Annotated[Weighting | None, _WEIGHTING] = None
    closing: ClosingWords = field(default_factory=ClosingWords)
    gating: GateWords = field(default_factory=GateWords)
    channels: ChannelWords = field(default_factory=ChannelWords)
    keep: KeepWords = field(default_factory=KeepWords)


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
    screening: Annotated[Literal["strict", "off"] | None, _SCREENING] = None
    statistics: Annotated[Literal["require", "optional"] | None, _STATISTICS] = None
    weighting: Annotated[Weighting | None, _WEIGHTING] = None
    closing: ClosingWords = field(default_factory=ClosingWords)
    gating: GateWords = field(default_factory=GateWords)
    channels: ChannelChange = field(default_factory=ChannelChange)
    keep: KeepWords = field(default_factory=KeepWords)
    by: Annotated[str | None, _BY] = None
    as_json: AsJson = False
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class QuarantineOptions:
    """Shut a contributor out: what it sends is rejected, and what it sent to the open round is not fused.

    Without a name, lists who is shut out and every change. `coldfuse readmit` lets it in again.

    Example: coldfuse quarantine ./federation mallory --reason "sends noise"
    """

    store: Store
    name: Annotated[str | None, typer.Argument(help="Name of the contributor.", show_default=False)] = None
    reason: Annotated[str | None, typer.Option(help="Why, which the contributor is told.")] = None
    by: Annotated[str | None, _BY] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class ReadmitOptions:
    """Let a contributor in again that was shut out.

    Example: coldfuse readmit ./federation mallory
    """

    store: Store
    name: Annotated[str, typer.Argument(help="Name of the contributor.", show_default=False)]
    reason: Annotated[str | None, typer.Option(help="Why, for the history.")] = None
    by: Annotated[str | None, _BY] = None
    as_json: AsJson = False


_ROOT = typer.Option(help="Fingerprint of the federation; without it, the store is believed.")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Where an aggregator's keys are."""

    keys: Annotated[
        Path | None,
        typer.Option(
            help="Folder with aggregator.pem and model.pem; systemd's credentials coldfuse-aggregator and "
            "coldfuse-model, or your own folder by default."
        ),
    ] = None
    root: Annotated[str | None, _ROOT] = None


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
class Serving:
    """How much a gateway does at a time, and what it tells."""

    max_streams: Annotated[
        int | None, typer.Option(min=1, help="Uploads and downloads at a time; as many as fit into memory by default.")
    ] = None
    max_uncommitted: Annotated[
        str | None,
        typer.Option(
            help="Bytes in the store that were sent and not committed, of all contributors; a quarter of a folder's "
            "disk, 256GiB of a bucket by default. Dropped after a day."
        ),
    ] = None
    show_names: Annotated[
        bool,
        typer.Option(
            "--show-names",
            help="Name those who contributed to a round to members who ask for the status (without a root: to all).",
        ),
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
    suite: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=FILE",
            help="Examples on which every fused model is compared with its base before it is published, where the "
            "federation has a gate: NAME=FILE, NAME=TRAIN,TEST, or NAME:TASK=FILE for another task than "
            "text-classification. May be repeated; stays on this machine and its workers.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """Serve contributors and consumers over gRPC; as many gateways on one store as wanted.

    Example: coldfuse gateway s3://models/federation --listen 0.0.0.0:7700 --tls-cert gw.pem --tls-key gw.key
    """

    store: Store
    listening: Listening = field(default_factory=Listening)
    serving: Serving = field(default_factory=Serving)
    memory: Annotated[
        str, typer.Option(help="Memory that the gateway may take; who finds no room in it waits, or comes again.")
    ] = "256MiB"
    root: Annotated[str | None, _ROOT] = None


@dataclass(frozen=True, kw_only=True)
class AggregatorOptions:
    """Screen, fuse and publish, round after round, on Ray. A second one on the same store waits, and takes over.

    The process that does this is started again by another one whenever it is lost, Ray's death included. Exit status
    78: the settings do not fit (too little memory for this model), and another start would not change that.

    Example: coldfuse aggregator s3://models/federation --ray-address auto
    """

    store: Store
    fusing: Fusing = field(default_factory=Fusing)
    holding: Holding = field(default_factory=Holding)
    telling: Telling = field(default_factory=Telling)
    rounds: Annotated[
        int | None, typer.Option(min=1, help="End after this many releases; until stopped by default.")
    ] = None
    unsupervised: Annotated[
        bool, typer.Option("--unsupervised", help="Leave it to somebody else to start it again: systemd, a container.")
    ] = False
    until: Annotated[int | None, typer.Option(hidden=True, min=1, help="End once this release is out.")] = None


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Run a gateway and an aggregator together, until stopped.

    Example: coldfuse serve ./federation --listen 127.0.0.1:7700
    """

    store: Store
    listening: Listening = field(default_factory=Listening)
    serving: Serving = field(default_factory=Serving)
    gateway_memory: Annotated[str | None, typer.Option(help="Memory that the gateway may take; 256MiB by default.")] = (
        None
    )
    fusing: Fusing = field(default_factory=Fusing)
    holding: Holding = field(default_factory=Holding)
    telling: Telling = field(default_factory=Telling)
