"""What was seen is kept, also by several processes at once, and nothing older is believed after it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from federation_keys import TinyTrust, make_root

from coldfuse.core.serialization import encode
from coldfuse.errors import CodecError, ExpiredError, RollbackError, SignatureError
from coldfuse.trust.channel import SignedChannel, channel_key, read_channel, require_current
from coldfuse.trust.envelope import sign
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.seen import Memory, Seen, with_channel, with_members, with_root
from coldfuse.trust.view import SKEW_S


def read(trust: TinyTrust, name: str = "latest") -> SignedChannel:
    return read_channel(trust.stored[channel_key(name)], name, root=trust.root, federation=trust.fingerprint)


def test_a_channel_is_what_the_aggregator_or_an_operator_has_signed() -> None:
    trust = TinyTrust()
    assert read_channel_after(trust, by=trust.aggregator).release == 3
    assert read_channel_after(trust, by=trust.operator).release == 3


def read_channel_after(trust: TinyTrust, **different: object) -> SignedChannel:
    trust.point(release=3, **different)  # type: ignore[arg-type]
    return read(trust)


@pytest.mark.parametrize(
    ("different", "error", "sentence"),
    [
        ({"by": PrivateKey.generate()}, SignatureError, "signed by .*; expected 1 of"),
        ({"federation": "0" * 64}, SignatureError, "taken over from another federation"),
        ({"name": "stable"}, SignatureError, "is signed as channel stable, and lies in another's place"),
        ({"root": 2}, RollbackError, "signed under root 2, and the newest that is handed out is 1"),
    ],
    ids=["stranger", "federation", "name", "root"],
)
def test_a_channel_that_is_not_what_it_should_be_is_refused(different, error, sentence) -> None:
    trust = TinyTrust()
    named = different.get("name", "latest")
    trust.point(**different)
    trust.stored[channel_key("latest")] = trust.stored[channel_key(named)]
    with pytest.raises(error, match=sentence):
        read(trust)


def test_a_model_key_signs_no_channel_and_a_release_is_none() -> None:
    trust = TinyTrust()
    trust.point(by=trust.model)
    with pytest.raises(SignatureError):
        read(trust)
    channel = trust.point()
    trust.stored[channel_key("latest")] = sign(encode(channel), "provenance", [trust.aggregator])
    with pytest.raises(CodecError, match="is signed as"):
        read(trust)


def test_a_channel_expires_once_no_clock_can_be_so_wrong() -> None:
    channel = TinyTrust().point()
    require_current(channel, now_s=channel.expires_at_s + SKEW_S)
    with pytest.raises(ExpiredError, match=r"was to be renewed 0\.0 hours ago; .* ask the operator"):
        require_current(channel, now_s=channel.expires_at_s + SKEW_S + 1)


def versions(seen: Seen) -> dict[str, int]:
    return {name: channel.version for name, channel in seen.channels.items()}


def test_nothing_older_is_believed_than_what_was_seen() -> None:
    trust = TinyTrust()
    old, new = trust.point(), trust.point()
    seen = with_members(with_channel(with_root(Seen(), trust.root), new), 5)
    assert (seen.root, seen.members, versions(seen)) == (1, 5, {"latest": 2})
    with pytest.raises(RollbackError, match="version 1 is handed out, and 2 was seen before"):
        with_channel(seen, old)
    with pytest.raises(RollbackError, match=r"members 4: .* and 5 was seen"):
        with_members(seen, 4)
    assert with_channel(seen, new) == seen
    assert versions(with_channel(seen, trust.point("stable"))) == {"latest": 2, "stable": 3}
    with pytest.raises(RollbackError, match="version 2 was seen before, and said something else"):
        with_channel(seen, trust.point(version=2, release=8))


def test_a_root_that_was_seen_is_missed() -> None:
    trust = TinyTrust()
    seen = with_root(Seen(), trust.root.model_copy(update={"version": 3}))
    with pytest.raises(RollbackError, match=r"root 1: .* and 3 was seen before"):
        with_root(seen, trust.root)


@pytest.mark.parametrize("role", ["aggregator", "operator"])
def test_counters_begin_anew_once_a_key_that_could_count_is_gone(role) -> None:
    trust = TinyTrust()
    far = trust.point(version=2**53)
    seen = with_members(with_channel(with_root(Seen(sources=("here",)), trust.root), far), 2**53)
    setattr(trust, role, PrivateKey.generate())
    after = with_root(seen, trust.rotate())
    assert (after.channels, after.members, after.root, after.sources) == ({}, 0, 2, ("here",))


def test_counters_stay_where_keys_were_only_added() -> None:
    trust = TinyTrust()
    seen = with_channel(with_root(Seen(), trust.root), trust.point())
    keys = {
        "root": [trust.operator], "operator": [trust.operator, PrivateKey.generate()],
        "aggregator": [trust.aggregator, PrivateKey.generate()], "model": [PrivateKey.generate_p256()],
    }  # fmt: skip
    assert with_root(seen, make_root(keys, version=2)).channels == seen.channels


def test_memory_is_for_later_processes_and_for_its_owner_alone(tmp_path: Path) -> None:
    trust = TinyTrust()
    folder = FederationFolder(tmp_path, trust.fingerprint)
    Memory(folder).keep_root(trust.root, None)
    trust.operator = PrivateKey.generate()
    trust.rotate()
    Memory(folder).keep_root(trust.root, trust.stored["root/2.json"])
    Memory(folder).change(lambda seen: with_channel(seen, trust.point()))
    again = Memory(folder)
    assert (again.seen().root, versions(again.seen()), again.newest_root()) == (2, {"latest": 1}, trust.root)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert Memory().seen() == Seen()


def test_the_newest_root_is_kept_again_where_it_was_removed(tmp_path: Path) -> None:
    trust = TinyTrust()
    folder = FederationFolder(tmp_path, trust.fingerprint)
    for _ in range(2):
        Memory(folder).keep_root(trust.root, trust.stored["root/1.json"])
        assert Memory(folder).newest_root() == trust.root
        (folder.path / "newest.json").unlink()


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    trust = TinyTrust()
    memory = Memory(FederationFolder(tmp_path, trust.fingerprint))
    old, new = trust.point(), trust.point()
    memory.change(lambda seen: with_channel(seen, new))
    with pytest.raises(RollbackError):
        memory.change(lambda seen: with_channel(seen, old))
    assert versions(memory.seen()) == {"latest": 2}


def test_a_damaged_note_is_said_and_not_taken_for_none(tmp_path: Path) -> None:
    folder = FederationFolder(tmp_path, "a" * 64)
    memory = Memory(folder)
    memory.change(lambda seen: seen.model_copy(update={"root": 7}))
    path = folder.path / "seen.json"
    path.write_bytes(path.read_bytes().replace(b"7", b"1"))
    with pytest.raises(CodecError, match="altered; remove it to begin anew"):
        memory.seen()
    (folder.path / "newest.json").write_bytes(b"{}")
    with pytest.raises(CodecError, match=r"newest\.json: .*; remove it to begin anew from root\.json"):
        memory.newest_root()
