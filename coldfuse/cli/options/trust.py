"""Options of the commands on keys and members."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import AsJson, QuickConnection, Source, Store

KEY_PANEL = "Whose key signs"

Role = Annotated[
    Literal["root", "operator", "aggregator", "model"],
    typer.Argument(help="root changes the root itself, operator signs members and rules.", show_default=False),
]


_ROOT = typer.Option(
    metavar="FINGERPRINT",
    help="The federation's fingerprint, where it is not known on this machine yet; remembered from then on.",
    rich_help_panel=KEY_PANEL,
)


@dataclass(frozen=True, kw_only=True)
class OperatorKey:
    """With which key an operator signs."""

    key: Annotated[
        str | None,
        typer.Option(
            help="Private key: a file (PEM, or OpenSSH's such as ~/.ssh/id_ed25519), or a URI (hsm:, awskms:, gcpkms:, "
            "azurekms:, hv:, file2:); systemd's credential coldfuse-operator, or the one in your folder by default.",
            rich_help_panel=KEY_PANEL,
        ),
    ] = None
    root: Annotated[str | None, _ROOT] = None


@dataclass(frozen=True, kw_only=True)
class KeysShowOptions:
    """Show the root: who signs what, how many must, until when, which keys are here, and what waits for signatures.

    Example: coldfuse keys show ./federation
    """

    store: Store
    root: Annotated[str | None, _ROOT] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class KeysAddOptions:
    """Let another key sign for a role. What lacks signatures of other operators is proposed to them.

    Example: coldfuse keys add ./federation operator bob.pub
    """

    store: Store
    role: Role
    new: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY...",
            help="Public keys: PEM, OpenSSH's .pub, or a private key's file or URI.",
            show_default=False,
        ),
    ]
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class KeysRemoveOptions:
    """Let a key sign for a role no longer.

    Example: coldfuse keys remove ./federation operator 3f9a1c
    """

    store: Store
    role: Role
    keyid: Annotated[str, typer.Argument(help="The key's id, or its beginning.", show_default=False)]
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class KeysThresholdOptions:
    """Say how many keys of a role must sign.

    Example: coldfuse keys threshold ./federation root 2
    """

    store: Store
    role: Role
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many must sign.", show_default=False)]
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class KeysRenewOptions:
    """Renew the root, before it expires or after.

    Example: coldfuse keys renew ./federation --days 365
    """

    store: Store
    days: Annotated[int, typer.Option(min=1, max=36500, help="From now on.")] = 365
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class KeysRotateOptions:
    """Put a new key into the place of the one here, in every role that it has. Aggregators take theirs up.

    Example: coldfuse keys rotate ./federation aggregator
    """

    store: Store
    role: Role
    to: Annotated[
        str | None, typer.Option(help="The new private key, a file or URI; a new one is made by default.")
    ] = None
    old: Annotated[
        str | None, typer.Option(help="Id of the key that goes, where it is not the one of this machine.")
    ] = None
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class KeysSignOptions:
    """Sign a change that another operator has proposed; without its id, list what waits and what it would change.

    Once enough have signed, it is published.

    Example: coldfuse keys sign ./federation 4be1f0
    """

    store: Store
    proposal: Annotated[
        str | None, typer.Argument(help="Id of the proposal, or its beginning.", show_default=False)
    ] = None
    signing: OperatorKey = field(default_factory=OperatorKey)
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class KeysExportOptions:
    """Print the public key with which this machine signs for a role, for `coldfuse keys add` at another operator's.

    Example: coldfuse keys export ./federation operator --new --root FINGERPRINT
    """

    store: Store
    role: Role = "operator"
    is_new: Annotated[bool, typer.Option("--new", help="Make a key if there is none yet.")] = False
    signing: OperatorKey = field(default_factory=OperatorKey)


MemberRole = Literal["contributor", "evaluator", "consumer", "operator"]


@dataclass(frozen=True, kw_only=True)
class EnrollOptions:
    """Invite somebody: prints a token for one use, to be handed over in secret, and nothing else on standard output.

    Who has joined already is renewed, by the same key and without stopping: no token then. Who has not, or was revoked,
    or needs another key (--new-key), is invited anew, and what was handed out before is worth nothing. An `operator`
    may do at a gateway what everybody may; to sign, an operator's key has to be in the root: coldfuse keys add.

    Example: coldfuse enroll ./federation alice --address gateway.example.org:7700 --out alice.token
    """

    store: Store
    name: Annotated[str, typer.Argument(help="Name of the member, of any script.", show_default=False)]
    role: Annotated[
        MemberRole | None,
        typer.Option(help="As what; contributor, or as before, by default.", show_default=False),
    ] = None
    quota: Annotated[
        str | None,
        typer.Option(
            help="Bytes of one contribution, and of what lies uncommitted, at most (100GiB); none by default."
        ),
    ] = None
    per_day: Annotated[int | None, typer.Option(min=1, help="Contributions in 24 hours at most.")] = None
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long the membership holds.")] = 365
    join_by: Annotated[str, typer.Option(help="How long the token can be used (90m, 24h, 7d).")] = "24h"
    address: Annotated[
        str | None,
        typer.Option(help="Where the member finds the federation: HOST:PORT of a gateway; the store by default."),
    ] = None
    is_new_key: Annotated[bool, typer.Option("--new-key", help="Invite anew who has joined: the old key is lost.")] = (
        False
    )
    out: Annotated[Path | None, typer.Option(help="Write the token into this new file, for you alone to read.")] = None
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class MembersOptions:
    """List the members: role, quota, key, when they joined, until when they are valid, and who was revoked why.

    Example: coldfuse members ./federation
    """

    store: Store
    root: Annotated[str | None, _ROOT] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class RevokeOptions:
    """Take a membership away. The open round drops what came since; what is released already stays.

    Example: coldfuse revoke ./federation mallory --since 2026-03-01 --reason "key stolen"
    """

    store: Store
    name: Annotated[str, typer.Argument(help="Name of the member.", show_default=False)]
    since: Annotated[
        str | None,
        typer.Option(
            help="From when on nothing of it counts: 2026-03-01T12:00, or 3d for so long ago; now by default."
        ),
    ] = None
    reason: Annotated[str, typer.Option(help="Why, which the member is told.")] = ""
    signing: OperatorKey = field(default_factory=OperatorKey)


@dataclass(frozen=True, kw_only=True)
class JoinOptions:
    """Take part in a federation with a token from its operator: makes a key on this machine, and binds it to the name.

    Example: coldfuse join alice.token
    """

    token: Annotated[
        str,
        typer.Argument(metavar="TOKEN_FILE", help="File with the token, or - for standard input.", show_default=False),
    ]
    address: Annotated[
        str | None, typer.Option(help="Where the federation is, if not where the token says: HOST:PORT or a store.")
    ] = None
    connection: QuickConnection = field(default_factory=QuickConnection)


@dataclass(frozen=True, kw_only=True)
class RotateOptions:
    """Replace your key by a new one that the old one signs. Nodes that run take it up.

    Example: coldfuse rotate gateway.example.org:7700
    """

    source: Source
    name: Annotated[str | None, typer.Option(help="Which of your names, where you have several.")] = None
    connection: QuickConnection = field(default_factory=QuickConnection)
