"""What is signed and has a place of its own: roots, members and their keys, releases' signatures, and checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.doctor.findings import Finding
from coldfuse.errors import CodecError, ColdfuseError, DamagedObjectError, ObjectNotFoundError, StorageError
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import list_releases, read_statement_of, release_key
from coldfuse.storage.base import list_keys
from coldfuse.trust.envelope import Kind, read_envelope
from coldfuse.trust.members import Member, Members, keys_folder, read_statements
from coldfuse.trust.model_signature import model_signature_key, read_signature
from coldfuse.trust.provenance import statement_key
from coldfuse.trust.view import TrustView

_KINDS: dict[str, Kind] = {"root/": "root", "members/": "members", "words/": "check", "scores/": "score"}


@dataclass(frozen=True)
class Signed:
    """Looks at what a federation with a root has beside the others."""

    federation: Federation

    def findings(self) -> Iterator[Finding]:
        """List what is damaged, missing or forged."""
        trust = self.federation.trust
        if trust is None:
            return
        try:
            members = trust.refresh().members
        except StorageError:
            raise
        except ColdfuseError as error:
            yield Finding(key="root/", why=str(error), needed_by=("everybody",))
            return
        yield from self._envelopes()
        yield from self._keys(members, trust)
        for number in list_releases(self.federation.store):
            if self.federation.settings.is_signed_release(number):
                yield from self._release(number, trust)

    def _envelopes(self) -> Iterator[Finding]:
        """Look at what can be read of older versions: the newest of each is verified already."""
        for folder, kind in _KINDS.items():
            for key in list_keys(self.federation.store, folder):
                if key.startswith("members/keys/") or not key.endswith(".json"):
                    continue
                try:
                    read_envelope(self.federation.store.get(key), what=key).content(kind, what=key)
                except CodecError as error:
                    yield _finding(key, error, "who verifies the history")

    def _keys(self, members: Members, trust: TrustView) -> Iterator[Finding]:
        """Look at the keys of all who are members, were, or have taken a name in an open federation."""
        envelopes: dict[str, list[str]] = defaultdict(list)
        for key in list_keys(self.federation.store, "members/keys/"):
            envelopes[key.rpartition("/")[0] + "/"].append(key)
        for folder, (name, member) in _folders(members, envelopes).items():
            keys = sorted(envelopes.get(folder, ()), key=lambda key: key.rpartition("/")[2].zfill(12))
            try:
                found = [self.federation.store.get(key) for key in keys]
                read_statements(
                    found, member=name, invite=member.invite if member else None, federation=trust.known().fingerprint
                )
            except (CodecError, ColdfuseError) as error:
                if isinstance(error, StorageError):
                    raise
                yield _finding(folder, error, f"what {name} signs")

    def _release(self, number: int, trust: TrustView) -> Iterator[Finding]:
        by = f"who verifies release {number}"
        try:
            data = self.federation.release_bytes(number)
            manifest = decode(ReleaseManifest, data, what=release_key(number))
        except (CodecError, DamagedObjectError):
            return  # which is found, and named, where manifests are looked at
        key = statement_key(number)
        try:
            keys = trust.all_keys("aggregator")
            if read_statement_of(self.federation.store, manifest, digest=sha256(data), keys=keys) is None:
                raise ObjectNotFoundError("it is missing")
            key = model_signature_key(number)
            read_signature(self.federation.store.get(key), trust.all_keys("model"))
        except ObjectNotFoundError:
            if key == statement_key(number):  # an aggregator may have no key for folders
                yield Finding(key=key, why="it is missing", needed_by=(by,))
        except StorageError:
            raise
        except ColdfuseError as error:
            yield _finding(key, error, by)


def _folders(members: Members, there: dict[str, list[str]]) -> dict[str, tuple[str, Member | None]]:
    """Return whose each folder of keys is; one of an invitation that no list has any more is nobody's."""
    found: dict[str, tuple[str, Member | None]] = {
        keys_folder(name, member.invite): (name, member) for name, member in (*members.members.items(), *members.former)
    }
    opened = "members/keys/open-"
    return found | {folder: (folder.removeprefix(opened)[:-1], None) for folder in there if folder.startswith(opened)}


def _finding(key: str, error: ColdfuseError, by: str) -> Finding:
    return Finding(key=key, why=str(error).removeprefix(f"{key}: "), needed_by=(by,))
