"""Who has signed a contribution, whether they may send it, and how many they have sent.

A gateway asks before it acknowledges; the aggregator asks again, and need not believe a gateway. How many contributions
a member has sent is counted in the store, as gateways are many: `quotas/<member>/<seconds>-<contribution>`, only
for members that have such a quota, and only for a day.
"""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import Received
from coldfuse.core.signature import Signature
from coldfuse.errors import ContributionRejectedError, NotAllowedError, SignatureError
from coldfuse.registry.federation import Federation
from coldfuse.storage.base import list_keys
from coldfuse.trust.contributing import DAY_S, why_too_large, why_too_many
from coldfuse.trust.rights import Asker, require_right
from coldfuse.trust.view import TrustView

MEMBERS_AGE_S = 2.0
"""Largest age of the list of members that a contribution is checked against; what it refuses is looked at again."""

_SENT = "quotas/"


class Senders:
    """Proves who has sent contributions to one federation. Threads may share it."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def prove(self, manifest: ContributionManifest, data: bytes, signature: Signature | None) -> Asker | None:
        """Return who has signed a contribution; None where the federation has no root.

        Args:
            manifest: The contribution's.
            data: The manifest as it came, of which alone the signature holds.
            signature: What came with it.

        Raises:
            NotAllowedError: It is no member's who may contribute.
            ContributionRejectedError: It is not signed, or is larger than its member may send.
        """
        view = self._federation.trust
        if view is None:
            return None
        try:
            sender = self._find(view, manifest, data, signature)
        except SignatureError as error:
            raise ContributionRejectedError(str(error)) from error
        size_bytes = sum(blob.size_bytes for blob in manifest.files)
        if sender.member is not None and (why := why_too_large(sender.member.quota, size_bytes)):
            raise ContributionRejectedError(why)
        return sender

    def count(self, sender: Asker | None, received: Received) -> None:
        """Count a contribution, if its member may send only so many.

        It is counted before it is recorded: two that come at once may both be refused, never both taken.

        Raises:
            ContributionRejectedError: They were enough for today.
        """
        if sender is None or sender.member is None or sender.member.quota.contributions_per_day is None:
            return
        store, now_s = self._federation.store, received.received_at_s
        own = f"{_SENT}{sender.name}/{int(now_s):010d}-{received.contribution}"
        sent = dict(self._sent(sender.name))
        if received.contribution in sent:
            return
        if why := why_too_many(sender.member.quota, list(sent.values()), now_s=now_s):
            raise ContributionRejectedError(why)
        store.put_if_absent(own, b"{}")
        others = [at_s for digest, at_s in self._sent(sender.name) if digest != received.contribution]
        if why := why_too_many(sender.member.quota, others, now_s=now_s):
            store.delete(own)
            raise ContributionRejectedError(why)
        for digest, at_s in sent.items():
            if at_s <= now_s - DAY_S:
                store.delete(f"{_SENT}{sender.name}/{int(at_s):010d}-{digest}")

    def _find(self, view: TrustView, manifest: ContributionManifest, data: bytes, signature: Signature | None) -> Asker:
        known = view.recent(max_age_s=MEMBERS_AGE_S)
        what = f"the contribution of {manifest.contributor}"
        try:
            return self._verify(view, data, signature, name=manifest.contributor, what=what)
        except NotAllowedError:  # it may have joined, or changed its key, a moment ago
            if view.refresh() == known:
                raise
            return self._verify(view, data, signature, name=manifest.contributor, what=what)

    def _verify(self, view: TrustView, data: bytes, signature: Signature | None, *, name: str, what: str) -> Asker:
        sender = view.verify(data, "contribution", signature, name=name, what=what)
        require_right("Commit", sender, is_open=view.known().root.is_open, now_s=self._federation.now_s())
        return sender

    def _sent(self, name: str) -> Iterator[tuple[str, float]]:
        for key in list_keys(self._federation.store, f"{_SENT}{name}/"):
            seconds, _, digest = key.rpartition("/")[2].partition("-")
            if seconds.isdecimal():
                yield digest, float(seconds)
