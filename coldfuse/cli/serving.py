"""What services hold and say of a federation's keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from coldfuse.cli.asking import ask_on_terminal
from coldfuse.cli.founding import OPEN
from coldfuse.config import credentials_folder, home_folder
from coldfuse.errors import SignatureError
from coldfuse.registry.federation import Federation
from coldfuse.trust.founding import AggregatorSigner
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.role_keys import RoleKeyring
from coldfuse.trust.signers import has_signer


def with_keys(federation: Federation, keys: Path | None) -> Federation:
    """Return a federation with the keys of its aggregator; one without a root as it is.

    Args:
        federation: The federation.
        keys: Folder with `aggregator.pem` and `model.pem`; None: systemd's credentials, or the user's own folder.

    Raises:
        UserInputError: There is no key here, or it cannot be used.
        NotAllowedError: The root names others.
        SignatureError: There is a key, and the federation says that it has no root.
    """
    if federation.trust is None or federation.settings.root is None:
        if keys is not None and has_signer("aggregator", keys):
            raise SignatureError(
                f"{federation.store.url}: says that it has no root, and {keys} holds an aggregator's key: somebody has "
                "replaced its settings, or this is another store; leave --keys out if that is meant"
            )
        return federation
    root = federation.trust.refresh().root
    own = FederationFolder(home_folder(), federation.settings.root)
    keyring = RoleKeyring(keys or own.keys, credentials_folder(), ask_on_terminal())
    list(keyring.settle(root))
    model = keyring.find("model") if keyring.has("model") else None
    if model is not None and model.public.id not in root.roles["model"].keys:
        _warn(f"the key {model.public.id[:12]} signs no model by root {root.version}: releases go without a model.sig")
        model = None
    held = replace(
        federation,
        signer=AggregatorSigner(aggregator=keyring.find("aggregator"), model=model),
    )
    held.require_signer()
    return held


def say_who_may(federation: Federation, url: str) -> None:
    """Say once, as a service starts, where anybody may take part."""
    if federation.trust is None:
        _warn(
            "this federation has no root: nobody is asked who they are, and nothing is signed; give it one with "
            f"coldfuse init {url} --adopt"
        )
    elif federation.trust.known().root.is_open:
        _warn(OPEN)


def _warn(message: str) -> None:
    typer.echo(f"coldfuse: {message}", err=True)
