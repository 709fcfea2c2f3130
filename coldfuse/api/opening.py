"""The one way from what a user names a federation by to a gateway: everything that has a root is verified.

Where the federation has a root, that must be known here (`consumer.anchors`), and nothing is believed that its keys
have not signed. One without a root, as older versions made them, is taken as it is, with a word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

from coldfuse.config import home_folder
from coldfuse.consumer.anchors import find_anchor, require_unknown
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.contributor.signing import claim_name
from coldfuse.errors import NotAllowedError, UserInputError
from coldfuse.gateway import Gateway
from coldfuse.transport.connect import Reach, connect, is_address
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity, find_identity
from coldfuse.trust.view import members_key

log = logging.getLogger(__name__)

_BY_DEFAULT = Reach()

Identify = Callable[[FederationFolder, bool], Identity | None]
"""identify(folder, is_open): as whom a federation is asked, and whether any key may contribute to it."""


def open_gateway(
    source: str,
    reach: Reach = _BY_DEFAULT,
    *,
    root: str | None = None,
    identify: Identify | None = None,
    warn: Callable[[str], None] = log.warning,
    on_connect: Callable[[Gateway], None] = lambda _: None,
) -> Gateway:
    """Return a gateway on a store, or to an address, that believes nothing that is not signed. Close it.

    Args:
        source: A folder, `s3://bucket/prefix`, or `host:port`.
        reach: How an address is reached.
        root: The federation's fingerprint, as its operator says it; None: as it is known here.
        identify: Says as whom an address is asked; None: as the member that this user is.
        warn: Called with a sentence where nothing is signed.
        on_connect: Called with what is asked from then on; closed by another thread, it ends the waiting.

    Raises:
        UnknownRootError: The federation has a root that nothing is known of.
        TrustError: It is another federation than the one that is known, or somebody hides its root.
        UserInputError: The source names neither a store nor an address.
        FederationError: The store holds no federation.
    """
    home = home_folder()
    with ExitStack() as stack:
        gateway = stack.enter_context(connect(source, reach))
        on_connect(gateway)
        anchor = find_anchor(gateway.read_signed, source, home=home, root=root)
        if anchor is None:
            require_unknown(gateway.status().federation, source, home=home)
            warn(f"{source}: {_UNSIGNED}")
            stack.pop_all()
            return gateway
        trusted = TrustedGateway(gateway, anchor=anchor.fingerprint, folder=anchor.folder)
        is_open = trusted.belief.root().is_open
        identity = identify(anchor.folder, is_open) if identify else _reader(source, reach, anchor.folder, is_open)
        if identity is not None and is_open and identity.name not in trusted.belief.known().members.members:
            claim_name(gateway, identity)
        if identity is None or not is_address(source):
            stack.pop_all()
        else:  # the first connection asks as nobody
            gateway = connect(source, reach, identity=identity)
            on_connect(gateway)
        return TrustedGateway(gateway, anchor=anchor.fingerprint, folder=anchor.folder, identity=identity)


_UNSIGNED = (
    "is a federation without a root: nothing that it hands out is signed; its operator gives it one with coldfuse init "
    "--adopt"
)


def _reader(source: str, reach: Reach, folder: FederationFolder, is_open: bool) -> Identity | None:
    """Return as whom a federation is read: as a member, or as its operator; None: as nobody.

    Of several memberships it is one that has neither ended nor lost its key, if there is such a one.
    """
    names = [] if is_open else [each.name for each in folder.memberships()]
    for name in names[:-1] if is_address(source) else []:
        try:
            identity = find_identity(folder, name)
            with connect(source, reach, identity=identity) as gateway:
                gateway.read_signed(members_key(1))
        except (NotAllowedError, UserInputError) as error:
            log.info("%s: is not asked as %s: %s", source, name, error)
        else:
            return identity
    if names:
        return find_identity(folder, names[-1])
    if is_open or not folder.has_key("operator"):
        return None
    return Identity("operator", folder.fingerprint, folder.read_key("operator"))


def as_named(name: str | None) -> Identify:
    """Return what says as whom somebody is asked who has to be somebody: the name that was given, or the only one."""
    return lambda folder, is_open: find_identity(folder, name, is_open=is_open and name is not None)


def as_contributor(name: str | None, *, default: str, sends: bool = True) -> Identify:
    """Return what says as whom somebody contributes.

    Args:
        name: The name that was given; None: in a closed federation the one that there is.
        default: The name in an open one where none was given.
        sends: False for who only shows what would be sent: no name of an open federation is claimed for that.
    """

    def identify(folder: FederationFolder, is_open: bool) -> Identity | None:
        if is_open and not sends:
            return None
        who = (default if is_open else None) if name is None else name
        return find_identity(folder, who, is_open=is_open)

    return identify
