"""What an operator says of channels and webhooks, as settings; and the secret by which these are signed."""

from __future__ import annotations

import os
from pathlib import Path

from coldfuse.cli.options.channels import ChannelChange, ChannelWords, Telling
from coldfuse.cli.units import parse_duration
from coldfuse.config import credentials_folder, take_webhook_secret
from coldfuse.core.soak import MAX_ROUNDS, SoakRule
from coldfuse.core.webhooks import MAX_WEBHOOKS, check_url
from coldfuse.errors import UserInputError
from coldfuse.webhooks import Outgoing, Secrets, read_secrets

_MAX_SECRET_BYTES = 4096


def soak_of(words: ChannelWords) -> SoakRule | None:
    """Return when `stable` follows; None where that is not spoken of.

    >>> soak_of(ChannelWords(stable_after="3")), soak_of(ChannelWords(stable_after="24h"))
    (SoakRule(rounds=3, seconds=None), SoakRule(rounds=None, seconds=86400.0))

    Raises:
        UserInputError: It is neither a number, nor a duration, nor off.
    """
    text = words.stable_after
    if text is None or text == "off":
        return None if text is None else SoakRule()
    if not text.isdecimal():
        return SoakRule(seconds=parse_duration(text))
    if not 1 <= int(text[:9]) <= MAX_ROUNDS:
        raise UserInputError(f"--stable-after {text[:20]}: expected 1 to {MAX_ROUNDS} releases")
    return SoakRule(rounds=int(text))


def webhooks_of(words: ChannelChange, before: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return who is told from now on; None where that is not spoken of.

    Raises:
        UserInputError: An address is none, is not there, or is one too many.
    """
    if not words.webhook and not words.no_webhook:
        return None
    kept = list(before)
    for url in words.no_webhook:
        if url not in ("all", *kept):
            raise UserInputError(f"--no-webhook {url[:80]!r}: is no webhook; there is {', '.join(kept) or 'none'}")
        kept = [] if url == "all" else [other for other in kept if other != url]
    for url in words.webhook:
        try:
            kept += [check_url(url)] if url not in kept else []
        except ValueError as error:
            raise UserInputError(f"--webhook {error}") from error
    if len(kept) > MAX_WEBHOOKS:
        raise UserInputError(f"--webhook: would make {len(kept)} addresses, expected at most {MAX_WEBHOOKS}")
    return tuple(kept)


def outgoing_of(telling: Telling) -> Outgoing:
    """Return how an aggregator tells webhooks; the secret leaves the environment, for whoever is started from here.

    Raises:
        UserInputError: The secret cannot be read, or is none.
    """
    return Outgoing(secrets=_secrets(telling), allows_private=telling.webhook_private)


def check_telling(telling: Telling) -> None:
    """Raise `UserInputError` for a file that holds no secret; the environment is left to who tells."""
    if telling.webhook_secret is not None:
        _read(Path(telling.webhook_secret))


def _secrets(telling: Telling) -> Secrets | None:
    variable = take_webhook_secret()
    if telling.webhook_secret is not None:
        return _read(Path(telling.webhook_secret))
    folder = credentials_folder()
    if folder is not None and (folder / "coldfuse-webhook").exists():
        return _read(folder / "coldfuse-webhook")
    return None if variable is None else read_secrets(variable, what="COLDFUSE_WEBHOOK_SECRET")


def _read(path: Path) -> Secrets:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SECRET_BYTES)
    except OSError as error:
        raise UserInputError(f"{os.fspath(path)}: {error.strerror}; expected the secret of webhooks in it") from error
    return read_secrets(data.decode(errors="replace"), what=os.fspath(path))
