"""Addresses that a federation tells what happens, as its settings name them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

MAX_WEBHOOKS = 8
"""Number of addresses at most: each has a thread of the aggregator's."""

_CHARS = re.compile(r"[!-~]{1,1000}")


def check_url(url: str) -> str:
    """Return an address that can be told something.

    >>> check_url("https://example.org/hooks/1")
    'https://example.org/hooks/1'

    Raises:
        ValueError: It is none, or holds a password: everybody reads it.
    """
    parts = urlsplit(url) if _CHARS.fullmatch(url) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError(f"{url[:80]!r}: expected an address such as https://example.org/hooks/1, in plain letters")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a webhook's address: holds a name or password, and everybody can read it; sign instead")
    _ = parts.port  # raises ValueError for what is no port
    return url


WebhookUrl = Annotated[str, AfterValidator(check_url)]
"""An http or https address."""

Webhooks = Annotated[tuple[WebhookUrl, ...], Field(max_length=MAX_WEBHOOKS)]
"""Addresses that are told what happens."""
