"""Who has signed the releases of a federation's history: by which key, of whatever root it was a key."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from coldfuse.errors import CodecError, SignatureError
from coldfuse.trust.envelope import read_envelope, verified
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.provenance import Statement, read_statement
from coldfuse.trust.reading import ReadSigned
from coldfuse.trust.root import Root, fingerprint_of
from coldfuse.trust.view import TrustView, root_key


@dataclass(frozen=True, kw_only=True)
class SigningKeys:
    """The aggregators' keys of all roots of a federation; none where it has no root."""

    fingerprint: str | None = None
    """Fingerprint of the federation, by its first root."""
    keys: tuple[PublicKey, ...] = ()
    """Keys that may sign releases, or could under an older root."""
    current: frozenset[str] = field(default_factory=frozenset)
    """Ids of those of the newest root."""

    def under(self, newest: Root | None) -> SigningKeys:
        """Return the same with the keys of a newer root, which was verified before; None: there is none."""
        if newest is None:
            return self
        new = _keys_of(newest)
        keys = {key.id: key for key in self.keys} | new
        return replace(self, keys=tuple(keys.values()), current=frozenset(new))


def signing_keys(read: ReadSigned, *, fingerprint: str | None = None) -> SigningKeys:
    """Read a federation's roots, from the first one on, each signed by the one before it.

    Args:
        read: Reads what is stored under a key.
        fingerprint: What the federation is known by; None to believe the first root that is read.

    Raises:
        SignatureError: A root is not signed as it has to be.
        CodecError: What lies there is no root.
    """
    data = read(root_key(1))
    if data is None:
        if fingerprint is not None:
            raise SignatureError(f"there is no root 1, expected that of {fingerprint[:16]}; somebody hides it")
        return SigningKeys()
    view = TrustView(read, fingerprint=fingerprint)
    root, _ = view.refresh_root()
    return SigningKeys(
        fingerprint=fingerprint_of(data),
        keys=tuple(view.all_keys("aggregator")),
        current=frozenset(_keys_of(root)),
    )


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What is known of a release's signature."""

    keyid: str | None = None
    """Id of the key that has signed it; None where nobody has, or nobody who may."""
    claimed: str | None = None
    """Id of the key that is said to have signed it, where no root is there that could tell."""
    statement: Statement | None = None
    """What was signed."""
    problem: str | None = None
    """Why it is not believed; None where it is, and where it is not signed."""
    is_current: bool = True
    """False where the newest root has replaced that key."""

    @property
    def in_words(self) -> str:
        """Who has signed it, for people."""
        if self.problem is not None:
            return f"REFUSED: {self.problem}"
        if self.claimed is not None:
            return f"signed by key {self.claimed[:12]}, which is not known here; see coldfuse verify --root FINGERPRINT"
        if self.keyid is None:
            return "unsigned"
        return f"signed by aggregator {self.keyid[:12]}{'' if self.is_current else ', a key that was replaced since'}"


def read_signed_release(data: bytes | None, keys: SigningKeys, *, what: str) -> Signed:
    """Return what is known of a release's signature; what is wrong with it is said, and raises nothing.

    Args:
        data: The envelope; None where there is none.
        keys: Those of the federation; without any, whoever has signed is named and not known.
        what: What the errors call it.
    """
    if data is None:
        return Signed()
    try:
        if not keys.keys:
            return Signed(claimed=next((each.keyid for each in read_envelope(data, what=what).signatures), None))
        payload = verified(data, "provenance", keys.keys, what=what)
        statement = read_statement(payload, what=what)
        known = {key.id for key in keys.keys}
        keyid = next(each.keyid for each in read_envelope(data, what=what).signatures if each.keyid in known)
    except (SignatureError, CodecError) as error:
        return Signed(problem=str(error))
    return Signed(keyid=keyid, statement=statement, is_current=keyid in keys.current)


def _keys_of(root: Root) -> dict[str, PublicKey]:
    return {key.id: key for key in root.keys_of("aggregator")}
