"""Taking part: a token becomes a key of one's own, and a key is followed by the next."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from coldfuse.api import joining
from coldfuse.cli.options.shared import Connection
from coldfuse.cli.options.trust import JoinOptions, RotateOptions
from coldfuse.cli.pace import Pace
from coldfuse.cli.source import tls_of
from coldfuse.cli.units import parse_duration
from coldfuse.config import home_folder
from coldfuse.core.names import shown
from coldfuse.errors import ColdfuseError, FederationError, UserInputError
from coldfuse.gateway import Gateway
from coldfuse.transport.connect import Reach, connect
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity, find_identity
from coldfuse.trust.root import fingerprint_of
from coldfuse.trust.root_changes import SHORT
from coldfuse.trust.tokens import MAX_TOKEN_CHARS, PREFIX, Token
from coldfuse.trust.view import root_key


def join(options: JoinOptions) -> None:
    """Take part in a federation, with a token."""
    token = Token.parse(_read_token(options.token))
    _require_same(options.connection.root, token.federation)
    address = options.address or token.address
    if address is None:
        raise UserInputError("this invitation does not say where the federation is; say it with --address")
    with _connect(address, options.connection) as gateway:
        folder = joining.join(token, gateway, home_folder(), address=address)
    name = shown(token.name, token.display_name)
    typer.echo(f"joined as {name}, {token.role}; your key: {folder.key_path(token.name)} (keep it to yourself)")
    typer.echo(f"fingerprint {token.federation}")
    way = _way(options.connection)
    option = f" --name {token.name}" if len(folder.memberships()) > 1 else ""
    if token.role in ("contributor", "operator"):
        typer.echo(f"next: coldfuse contribute {address} --data FILE{option}{way}")
    elif token.role == "evaluator":
        typer.echo(f"next: coldfuse evaluator {address} --suite NAME=TRAIN,TEST{option}{way}")
    else:
        typer.echo(f"next: coldfuse fetch {address} --out DIR{way}")


def rotate(options: RotateOptions) -> None:
    """Replace this user's key by a new one."""
    folder = _known_folder(options.source, options.connection)
    identity = find_identity(folder, options.name)
    before = identity.signer.public.id
    with _connect(options.source, options.connection, identity) as gateway:
        new = joining.rotate(identity, gateway, folder)
    typer.echo(
        f"{shown(identity.name, identity.display_name)}: key {before[:SHORT]} is followed by {new[:SHORT]}, in "
        f"{folder.key_path(identity.name)}; nodes that run take it up"
    )


def _require_same(given: str | None, found: str) -> None:
    if given is not None and given != found:
        raise UserInputError(f"--root {given[:80]}: this is another federation, {found}")


def _read_token(given: str) -> str:
    if given.startswith(PREFIX):
        raise UserInputError(
            "give the token in a file, or on standard input (-): on the command line, everybody on this machine sees "
            "it in the list of processes, and it stays in the shell's history"
        )
    try:
        if given == "-":
            return sys.stdin.read(MAX_TOKEN_CHARS + 1)
        with Path(given).open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_TOKEN_CHARS + 1)
    except OSError as error:
        raise UserInputError(f"{given}: cannot be read ({error.strerror}); expected a file with a token") from error


def _connect(address: str, connection: Connection, identity: Identity | None = None) -> Gateway:
    """Connect as somebody who may not be a member yet, and so is asked nothing that strangers are not told."""
    pace = Pace()

    def say(error: ColdfuseError) -> None:
        if pace.is_due():
            typer.echo(f"coldfuse: {error}; trying again", err=True)

    reach = Reach(
        tls=tls_of(connection), insecure=connection.insecure, retry_s=parse_duration(connection.patience),
        on_trouble=say,
    )  # fmt: skip
    return connect(address, reach, identity=identity)


def _known_folder(source: str, connection: Connection) -> FederationFolder:
    """Return what this user holds of the federation that is there."""
    with _connect(source, connection) as gateway:
        data = gateway.read_signed(root_key(1))
    if data is None:
        raise FederationError(f"{source}: this federation has no root, and so nobody in it has a key")
    folder = FederationFolder(home_folder(), fingerprint_of(data))
    _require_same(connection.root, folder.fingerprint)
    joining.require_known(folder, source)
    return folder


def _way(connection: Connection) -> str:
    """Return the options by which the gateway was reached, as the next command needs them, too."""
    files = {"--tls-ca": connection.tls_ca, "--tls-cert": connection.tls_cert, "--tls-key": connection.tls_key}
    given = [f" {option} {shlex.quote(str(path))}" for option, path in files.items() if path is not None]
    return "".join(given) + (" --insecure" if connection.insecure else "")
