"""Channels that go on under a root which takes the keys away that have signed them.

The next aggregator would sign them anew once it runs. Until then nobody would believe them, though nothing is wrong:
so whoever publishes the root, and may sign them, does it at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from coldfuse.errors import ColdfuseError, StorageError
from coldfuse.registry.federation import Federation
from coldfuse.registry.pointers import Pointer
from coldfuse.trust.channel import SIGNERS
from coldfuse.trust.keys import Signer
from coldfuse.trust.root import Root

log = logging.getLogger(__name__)


def channels_to_sign(federation: Federation, before: Root, after: Root) -> dict[str, Pointer]:
    """Return the channels that would be believed no more under the next root, as they are believed now."""
    if all(set(before.roles[role].keys) <= set(after.roles[role].keys) for role in SIGNERS):
        return {}
    found = {}
    for name in federation.pointers.names():
        try:
            found[name] = federation.pointers.read(name)
        except StorageError:
            raise
        except ColdfuseError as error:  # it is believed by nobody now
            log.warning("%s", error)
    return found


def signer_of_channels(root: Root, signers: Iterable[Signer]) -> Signer | None:
    """Return which of these keys can sign a channel alone, an aggregator's first; None if none of them can."""
    held = {signer.public.id: signer for signer in signers}
    for role in SIGNERS:
        if root.roles[role].threshold == 1:
            for keyid in root.roles[role].keys:
                if keyid in held:
                    return held[keyid]
    return None


def sign_channels(federation: Federation, channels: Mapping[str, Pointer], signer: Signer) -> Iterator[str]:
    """Sign channels anew, where they point; return why not, one by one, where that cannot be.

    What somebody else has written meanwhile stays: an aggregator is there, and signs it.
    """
    if federation.trust is not None:
        federation.trust.refresh()
    for name, pointer in channels.items():
        try:
            federation.pointers.write(name, pointer.channel, pointer, signer)
        except ColdfuseError as error:
            yield f"channel {name}: {error}"
