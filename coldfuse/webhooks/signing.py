"""Signatures of what is sent, by the symmetric scheme of Standard Webhooks.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from coldfuse.errors import UserInputError

_PREFIX = "whsec_"
_MIN_BYTES, _MAX_BYTES = 24, 64
_MAX_SECRETS = 4


@dataclass(frozen=True)
class Secrets:
    """Secrets by which is signed: the newest first, and older ones for as long as receivers change over."""

    keys: tuple[bytes, ...] = field(repr=False)

    def headers(self, message_id: str, body: bytes, *, now_s: float) -> Mapping[str, str]:
        """Return the headers by which a receiver verifies a message.

        >>> Secrets((b"0" * 24,)).headers("msg_1", b"{}", now_s=5.7)["webhook-signature"]
        'v1,2Ra8ORfnckxmCVBW1EnNppnhO3IAAI24MrT1YA2hhiU='

        Args:
            message_id: Id of the message, the same at every try.
            body: What is sent.
            now_s: Seconds since 1970.
        """
        stamp = str(int(now_s))
        signed = b".".join((message_id.encode(), stamp.encode(), body))
        signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self.keys)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }


def read_secrets(text: str, *, what: str) -> Secrets:
    """Return the secrets that a file or a variable holds: `whsec_` and base64, several apart by spaces or lines.

    Args:
        text: What it holds.
        what: What the errors call it; nothing of the text is in them.

    Raises:
        UserInputError: It holds none, or one that is too short or too long.
    """
    words = text.split()
    if not 1 <= len(words) <= _MAX_SECRETS:
        raise UserInputError(f"{what}: holds {len(words)} secrets, expected 1 to {_MAX_SECRETS}")
    return Secrets(tuple(_key(word, what) for word in words))


def _key(word: str, what: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise UserInputError(
            f"{what}: expected {_PREFIX} and {_MIN_BYTES} to {_MAX_BYTES} random bytes in base64; make one with: "
            'echo "whsec_$(openssl rand -base64 32)"'
        )
    return key
