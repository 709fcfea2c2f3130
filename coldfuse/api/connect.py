"""Connecting to a federation, and fetching a release in one call."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from coldfuse.api.bars import Watching
from coldfuse.api.federation import Federation, Folder
from coldfuse.api.opening import Identify, open_gateway
from coldfuse.api.values import FetchedRelease
from coldfuse.core.names import Identity
from coldfuse.errors import UserInputError
from coldfuse.gateway import Gateway
from coldfuse.transport.connect import Reach, is_address
from coldfuse.trust.home import check_fingerprint
from coldfuse.trust.tls import TlsFiles


def connect(  # noqa: PLR0913 - what there is to say, by keyword
    source: Folder,
    *,
    name: str | None = None,
    root: str | None = None,
    tls_ca: Folder | None = None,
    tls_cert: Folder | None = None,
    tls_key: Folder | None = None,
    insecure: bool = False,
    retry_s: float = 120.0,
) -> Federation:
    """Connect to a federation.

    >>> connect("127.0.0.1:7700")
    Federation('127.0.0.1:7700')
    >>> connect("an/empty/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    coldfuse.errors.FederationError: ...an/empty/folder holds no federation ...

    Args:
        source: A gateway's address (`host:port`), or a store: a folder or `s3://bucket/prefix`.
        name: As whom, where you have joined it under several names; what you contribute is under this one, too, unless
            you say otherwise.
        root: The federation's fingerprint, as its operator says it; it is remembered. None: by what this user knows it
            already. What is at an address is looked at with the first call.
        tls_ca: Authority that the gateway's certificate must come from, PEM; those that this machine knows by default.
        tls_cert: Your certificate, PEM, where the gateway asks for one.
        tls_key: Its private key, PEM.
        insecure: True to speak plain text to a gateway on another machine.
        retry_s: Seconds for which a gateway that is out of reach is tried.

    Raises:
        UserInputError: The source names neither a store nor an address, or the certificates cannot be used.
        FederationError: The store holds no federation.
        UnknownRootError: It has a root, and nothing is known of that here; see `root`.
        TrustError: It is another federation than the one that is known, or is not signed as it has to be.
    """
    place = _place(source, "source")
    ca, cert, key = (
        Path(_place(path, what)) if path else None
        for what, path in (("tls_ca", tls_ca), ("tls_cert", tls_cert), ("tls_key", tls_key))
    )
    if name is not None:
        Identity.of(name)
    tls = TlsFiles(ca=ca, cert=cert, key=key) if ca or cert or key else None
    reach, wanted = (
        Reach(tls=tls, insecure=insecure, retry_s=retry_s),
        None if root is None else check_fingerprint(root),
    )

    def open_(identify: Identify | None) -> Gateway:
        return open_gateway(place, reach, root=wanted, identify=identify)

    federation = Federation(place, open_, name=name)
    if not is_address(place):
        federation.open()
    return federation


def fetch(  # noqa: PLR0913 - what there is to say, by keyword
    source: Folder | Federation,
    out: Folder,
    *,
    root: str | None = None,
    release: int | None = None,
    channel: str = "latest",
    verify: bool = False,
    allow_older: bool = False,
    progress: Watching = None,
) -> FetchedRelease:
    """Download a release, verify it, and leave a folder that `from_pretrained` loads.

    Args:
        source: A gateway's address, a store, or a federation that is connected.
        out: As in `Federation.fetch`, and so are the others.
        root: The federation's fingerprint, as in `connect`; not for one that is connected.
        release: Number of the release; the channel's by default.
        channel: Channel to follow.
        verify: True to read all that is there already.
        allow_older: True to follow the channel back to an older release also where nobody has signed that.
        progress: True for a bar, or a function that is called with the bytes done and those in all.

    Raises:
        ColdfuseError: As `connect` and `Federation.fetch`.
    """
    if isinstance(source, Federation) and root is not None:
        raise UserInputError("root: this federation is connected already; give the fingerprint to connect")
    with nullcontext(source) if isinstance(source, Federation) else connect(source, root=root) as federation:
        return federation.fetch(
            out, release=release, channel=channel, verify=verify, allow_older=allow_older, progress=progress
        )


def _place(path: Folder, what: str) -> str:
    """Return a path, an address or a bucket as text; raises `UserInputError` for what is none."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise UserInputError(f"{what}: expected a path, or text, got {type(text).__name__}")
    return text
