"""`coldfuse verify` on copies of a small federation, each damaged or forged in one way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from rooted import DAY_S
from rooted_rounds import SignedFederation, make_signed_federation

from coldfuse.core.sealed import seal
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import CodecError
from coldfuse.registry.chain import Link
from coldfuse.registry.signed import write_signed
from coldfuse.storage import MemoryStore
from coldfuse.storage.base import list_keys
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import Kind, read_envelope, sign
from coldfuse.trust.keys import PrivateKey, Signer
from coldfuse.trust.members import KeyStatement, Revocation, keys_folder, state_key
from coldfuse.trust.root import RoleKeys, Root
from coldfuse.trust.seen import Seen, SeenChannel
from coldfuse.verification.causes import Cause
from coldfuse.verification.findings import Report
from coldfuse.verification.store import Request, verify_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SignedFederation:
    return make_signed_federation(tmp_path_factory.mktemp("federation"))


@pytest.fixture(scope="module")
def stored(made: SignedFederation) -> Mapping[str, bytes]:
    return {key: made.store.get(key) for key in list_keys(made.store, "")}


class Copy:
    """A copy of the federation's store, to be damaged."""

    def __init__(self, made: SignedFederation, stored: Mapping[str, bytes]) -> None:
        self.made = made
        self.store = MemoryStore()
        self.at_s = time.time()
        for key, data in stored.items():
            self.store.put_if_absent(key, data)

    def put(self, key: str, data: bytes) -> None:
        """Put something in the place of what is there."""
        self.store.delete(key)
        self.store.put_if_absent(key, data)

    def payload(self, key: str, kind: Kind) -> bytes:
        return read_envelope(self.store.get(key), what=key).content(kind, what=key)

    def resign(self, key: str, kind: Kind, payload: bytes, *signers: Signer) -> None:
        self.put(key, write_signed(payload, kind, signers))

    def look(self, **changes: object) -> Report:
        request = Request(at_s=self.at_s, fingerprint=self.made.keys.fingerprint)
        return verify_store(self.store, replace(request, **changes))  # type: ignore[arg-type]

    def causes(self, **changes: object) -> dict[Cause, list[str]]:
        found: dict[Cause, list[str]] = {}
        for finding in self.look(**changes).findings:
            found.setdefault(finding.cause, []).append(f"{finding.where}: {finding.why}")
        return found


@pytest.fixture
def copy(made: SignedFederation, stored: Mapping[str, bytes]) -> Copy:
    return Copy(made, stored)


def test_an_untouched_copy_is_fine_and_everything_was_looked_at(copy: Copy) -> None:
    report = copy.look(reads_all=True)
    assert report.status(strict=True) == 0, report.findings
    counts = report.looked_at
    assert counts["releases"] == counts["signatures of releases"] == 3
    assert counts["signatures of contributions"] == counts["contributions"] == 6
    assert counts["signatures of journals"] == 12  # ten entries and two heads
    assert counts["objects read whole"] == len(list(list_keys(copy.store, "objects/")))


def alter_a_release(copy: Copy) -> None:
    copy.put("releases/00001.json", copy.store.get("releases/00001.json").replace(b'"round":1', b'"round":2'))


def forge_a_statement(copy: Copy) -> None:
    payload = copy.payload("releases/00002.sig", "provenance")
    copy.put("releases/00002.sig", sign(payload, "provenance", [PrivateKey.generate()]))


def exchange_statements(copy: Copy) -> None:
    copy.put("releases/00002.sig", copy.store.get("releases/00001.sig"))


def alter_what_a_statement_says(copy: Copy) -> None:
    envelope = json.loads(copy.store.get("releases/00002.sig"))
    envelope["payload"] = json.loads(copy.store.get("releases/00001.sig"))["payload"]
    copy.put("releases/00002.sig", json.dumps(envelope).encode())


def strip_a_statement(copy: Copy) -> None:
    copy.store.delete("releases/00001.sig")


def take_a_release_away(copy: Copy) -> None:
    copy.store.delete("releases/00001.json")


def take_an_entry_away(copy: Copy) -> None:
    copy.store.delete("rounds/00001/journal/00000002-closed")


def take_a_contribution_away(copy: Copy) -> None:
    key = next(key for key in list_keys(copy.store, "rounds/00001/journal/") if key.endswith("-received"))
    copy.store.delete(f"objects/{key.rpartition('/')[2].removesuffix('-received')}")


def hide_that_something_came(copy: Copy) -> None:
    copy.store.delete(next(key for key in list_keys(copy.store, "rounds/00002/journal/") if key.endswith("-received")))


def take_the_members_away(copy: Copy) -> None:
    copy.store.delete("members/1.json")


def exchange_the_settings(copy: Copy) -> None:
    settings = copy.made.federation.settings.model_copy(update={"method": "median"})
    copy.put("federation.json", write_signed(encode(settings), "federation", [PrivateKey.generate()], version=2))


def strip_the_settings(copy: Copy) -> None:
    copy.put("federation.json", seal(copy.made.federation.settings.model_copy(update={"root": None, "version": 1})))


def alter_a_verdict(copy: Copy) -> None:
    key = "rounds/00001/journal/00000001-admitted"
    payload = copy.payload(key, "journal").replace(b'"num_examples":100', b'"num_examples":999', 1)
    copy.resign(key, "journal", payload, PrivateKey.generate())


def rewrite_a_verdict_with_the_key(copy: Copy) -> None:
    """Rewrite the middle of a journal: the aggregator itself cannot without rewriting all that follows."""
    key = "rounds/00001/journal/00000001-admitted"
    payload = copy.payload(key, "journal").replace(b'"num_examples":100', b'"num_examples":999', 1)
    copy.resign(key, "journal", payload, copy.made.keys.aggregator)


def put_a_list_of_members_elsewhere(copy: Copy) -> None:
    copy.put("members/3.json", copy.store.get("members/2.json"))


def with_other_aggregator(root: Root, key: PrivateKey) -> Root:
    """Return the next version of a root, with another aggregator's key."""
    held = {keyid: public for keyid, public in root.keys.items() if keyid not in root.roles["aggregator"].keys}
    roles = root.roles | {"aggregator": RoleKeys(keys=(key.public.id,))}
    return Root(
        version=root.version + 1, created_at_s=time.time(), expires_at_s=root.expires_at_s, is_open=root.is_open,
        keys=held | {key.public.id: key.public}, roles=roles,
    )  # fmt: skip


def put_another_root(copy: Copy) -> None:
    root = decode(Root, copy.payload("root/1.json", "root"), what="root")
    stranger = PrivateKey.generate()
    new = with_other_aggregator(root, stranger)
    copy.put("root/2.json", sign(encode(new), "root", [stranger]))


def forge_a_channel(copy: Copy) -> None:
    channel = decode(SignedChannel, copy.payload("channels/latest", "channel"), what="channel")
    copy.resign("channels/latest", "channel", encode(channel), PrivateKey.generate())


def point_elsewhere(copy: Copy) -> None:
    """Name the release before as the latest, by the aggregator's own key, with a version of before it."""
    before = copy.made.federation.release(1)
    channel = decode(SignedChannel, copy.payload("channels/latest", "channel"), what="channel").model_copy(
        update={
            "release": 1, "round": 1, "manifest": sha256(encode(before)), "model_digest": before.model_digest,
            "version": 1_000,
        }
    )  # fmt: skip
    copy.resign("channels/latest", "channel", encode(channel), copy.made.keys.aggregator)


def close_on_fewer(copy: Copy) -> None:
    """Leave out somebody who was admitted, with all signatures right."""
    rewrite_round(copy, 2, lambda text: drop_first_of(text, "contributions"))


def drop_first_of(payload: dict[str, object], field: str) -> None:
    entry = payload["entry"]
    assert isinstance(entry, dict)
    if entry["event"] == "closed":
        entry[field] = entry[field][1:]


def rewrite_round(copy: Copy, number: int, change: Callable[[dict[str, object]], None]) -> None:
    """Rewrite a whole journal with the aggregator's key."""
    before: str | None = None
    last = b""
    for place, key in enumerate(sorted(list_keys(copy.store, f"rounds/{number:05d}/journal/0000"))):
        payload = json.loads(copy.payload(key, "journal"))
        change(payload)
        if place:
            payload["before"] = before
        data = encode(Link.model_validate(payload))
        before, last = sha256(data), write_signed(data, "journal", [copy.made.keys.aggregator])
        copy.put(key, last)
    copy.put(f"rounds/{number:05d}/head", last)


def open_with_other_rules(copy: Copy) -> None:
    def change(payload: dict[str, object]) -> None:
        entry = payload["entry"]
        assert isinstance(entry, dict)
        if entry["event"] == "opened":
            entry["terms"]["method"] = "median"

    rewrite_round(copy, 2, change)


def cut_an_object(copy: Copy) -> None:
    part = copy.made.federation.release(2).files["model.safetensors"].parts[-1]
    copy.put(f"objects/{part.digest}", b"short")


def alter_an_object(copy: Copy) -> None:
    part = copy.made.federation.release(2).files["model.safetensors"].parts[-1]
    data = bytearray(copy.store.get(f"objects/{part.digest}"))
    data[len(data) // 2] ^= 1
    copy.put(f"objects/{part.digest}", bytes(data))


@pytest.mark.parametrize(
    ("damage", "cause", "where"),
    [
        (alter_a_release, Cause.DIGEST, "releases/00001.json"),
        (forge_a_statement, Cause.UNKNOWN_KEY, "releases/00002.sig"),
        (exchange_statements, Cause.SIGNATURE, "releases/00002.sig"),
        (alter_what_a_statement_says, Cause.SIGNATURE, "releases/00002.sig"),
        (strip_a_statement, Cause.SIGNATURE, "releases/00001.sig"),
        (take_a_release_away, Cause.GAP, "releases/00001.json"),
        (take_an_entry_away, Cause.GAP, "rounds/00001/journal/00000003-fused"),
        (take_a_contribution_away, Cause.GAP, "objects/"),
        (hide_that_something_came, Cause.GAP, "round 2"),
        (take_the_members_away, Cause.GAP, "members/1.json"),
        (exchange_the_settings, Cause.UNKNOWN_KEY, "federation.json"),
        (strip_the_settings, Cause.SIGNATURE, "federation.json"),
        (alter_a_verdict, Cause.UNKNOWN_KEY, "rounds/00001/journal/00000001-admitted"),
        (rewrite_a_verdict_with_the_key, Cause.GAP, "rounds/00001/journal/00000002-closed"),
        (put_a_list_of_members_elsewhere, Cause.SIGNATURE, "members/3.json"),
        (put_another_root, Cause.UNKNOWN_KEY, "root/2.json"),
        (forge_a_channel, Cause.UNKNOWN_KEY, "channels/latest"),
        (point_elsewhere, Cause.ROLLED_BACK, "channels/latest"),
        (close_on_fewer, Cause.CONTRADICTION, "round 2"),
        (open_with_other_rules, Cause.CONTRADICTION, "round 2"),
        (cut_an_object, Cause.DIGEST, "objects/"),
        (alter_an_object, Cause.DIGEST, "objects/"),
    ],
)
def test_each_damage_is_named_by_its_cause(
    copy: Copy, damage: Callable[[Copy], None], cause: Cause, where: str
) -> None:
    damage(copy)
    found = copy.causes(reads_all=True)
    assert any(one.startswith(where) for one in found.get(cause, ())), found
    assert copy.look(reads_all=True).status() >= cause.status


def test_another_federation_than_the_one_that_is_known_is_believed_in_nothing(copy: Copy) -> None:
    found = copy.causes(fingerprint="0" * 64)
    assert "fingerprint" in found[Cause.SIGNATURE][0]


def test_what_nobody_renews_has_expired_when_it_is_looked_at_later(copy: Copy) -> None:
    soon = copy.causes(fingerprint=copy.made.keys.fingerprint, at_s=time.time() + 30 * 86400)
    assert [one.split(":")[0] for one in soon[Cause.EXPIRED]] == ["channels/latest"]
    late = copy.causes(at_s=time.time() + 2 * 365 * DAY_S)
    assert any(one.startswith("root/1.json") for one in late[Cause.EXPIRED])


def test_of_a_time_before_there_was_a_federation_nothing_is_said(copy: Copy) -> None:
    first_s = copy.made.federation.trust.known().root.created_at_s
    found = copy.causes(at_s=first_s - 86400)
    assert found == {
        Cause.NOT_SEEN: ["root/1.json: was made after the time that was asked for: nothing was there to judge"]
    }
    assert not copy.causes(at_s=first_s - 60)  # two clocks may differ by so much


def test_versions_that_were_seen_before_are_missed_when_they_are_gone(copy: Copy) -> None:
    seen = Seen(root=2, members=9, settings=1, channels={"latest": SeenChannel(version=2**40, digest="0" * 64)})
    found = copy.causes(seen=seen)[Cause.ROLLED_BACK]
    assert {one.split(":")[0] for one in found} == {
        "root",
        "list of members",
        "the last change of the settings",
        "channels/latest",
    }


@pytest.mark.parametrize(("since", "is_bad"), [(-3600.0, True), (3600.0, False)])
def test_who_was_revoked_before_signing_is_named_and_who_was_later_is_said(
    copy: Copy, since: float, is_bad: bool
) -> None:
    made = copy.made
    at_s = time.time() + since
    revoked = made.members | {
        "ben": made.members["ben"].model_copy(update={"revoked": Revocation(at_s=at_s, since_s=at_s, reason="stolen")})
    }
    newest = read_envelope(copy.store.get("members/2.json"), what="m").content("members", what="m")
    members = json.loads(newest) | {
        "version": 3, "members": {name: member.model_dump(mode="json") for name, member in revoked.items()},
    }  # fmt: skip
    copy.put("members/3.json", sign(json.dumps(members).encode(), "members", made.keys.operators))
    report = copy.look()
    bad = [f for f in report.findings if f.cause is Cause.REVOKED and "ben" in f.where]
    assert bool(bad) is is_bad
    assert is_bad or any("ben was revoked after" in note for note in report.notes)


def test_what_was_signed_with_a_key_that_its_member_had_replaced_before_is_named(copy: Copy) -> None:
    made, new = copy.made, PrivateKey.generate()
    ben = made.identities["ben"].signer
    statement = KeyStatement(
        federation=made.keys.fingerprint, member="ben", number=1, key=new.public, made_at_s=time.time() - 86400
    )
    folder = keys_folder("ben", made.members["ben"].invite)
    copy.put(f"{folder}1.json", state_key(statement, before=ben, own=new))
    found = copy.causes()
    assert len(found[Cause.REVOKED]) == 2
    assert all("of ben" in one for one in found[Cause.REVOKED])


def test_a_release_signed_by_an_aggregator_that_was_replaced_before_is_named(copy: Copy) -> None:
    made, stranger = copy.made, PrivateKey.generate()
    root = decode(Root, copy.payload("root/1.json", "root"), what="root")
    new = with_other_aggregator(root, stranger)
    early = new.model_copy(update={"created_at_s": time.time() - 86400})
    copy.put("root/2.json", sign(encode(early), "root", made.keys.operators))
    found = copy.causes()[Cause.REVOKED]
    assert any(one.startswith("releases/00002.sig") for one in found)
    assert any(one.startswith("rounds/00002/journal/") for one in found)


def test_an_aggregator_that_was_replaced_later_has_signed_what_it_signed(copy: Copy) -> None:
    made, stranger = copy.made, PrivateKey.generate()
    root = decode(Root, copy.payload("root/1.json", "root"), what="root")
    new = with_other_aggregator(root, stranger)
    copy.put("root/2.json", sign(encode(new), "root", made.keys.operators))
    channel = copy.payload("channels/latest", "channel").replace(b'"root":1', b'"root":2')
    copy.resign("channels/latest", "channel", channel, stranger)
    assert copy.look(at_s=time.time()).status() == 0, copy.causes()


def test_numbers_that_strangers_make_up_cost_nothing(copy: Copy) -> None:
    """Whoever can write a name can write a large one."""
    reads = 0
    get = copy.store.get

    def counted(key: str, **options: object) -> bytes:
        nonlocal reads
        reads += 1
        return get(key, **options)  # type: ignore[arg-type]

    for key in ("members/999999999.json", "rounds/999999999/head", "releases/99999.json", "settings/99999.json"):
        copy.put(key, b"{}")
    copy.store.get = counted  # type: ignore[method-assign]
    report = copy.look()
    assert reads < 200
    gaps = {finding.where for finding in report.findings if finding.cause is Cause.GAP}
    assert {"members 3 to 999999998", "round 3 to 999999998"} <= gaps


def test_what_is_found_is_bounded_and_the_worst_stays(copy: Copy) -> None:
    for number in range(300):
        copy.put(f"rounds/00002/journal/{number:08d}", b"x")
    copy.put("releases/00002.sig", copy.store.get("releases/00001.sig"))
    report = copy.look()
    assert len(report.findings) <= 200
    assert report.num_more > 0
    assert report.findings[0].cause is Cause.SIGNATURE


def test_nothing_that_is_stored_acts_on_a_terminal(copy: Copy) -> None:
    copy.put("channels/\u202egnp", b"\x1b[31m")
    copy.put("rounds/00002/journal/x\u202ey", b"x")
    for finding in copy.look().findings:
        assert f"{finding}".isprintable()


HARMLESS = ("leases/", "uploads/", "damaged/")
"""What vouches for nothing."""


def flips(data: bytes, key: str) -> list[int]:
    """Return bytes to flip: the first, the last, and some between, other ones for every key."""
    seed = int(sha256(key.encode())[:8], 16)
    return sorted({0, len(data) - 1, seed % len(data), 7 * seed % len(data)})


def test_a_flipped_bit_anywhere_in_any_file_is_found(copy: Copy) -> None:
    """What is signed or named by its digest cannot change; what is not vouches for nothing."""
    missed, tried = [], 0
    for key in list_keys(copy.store, ""):
        data = copy.store.get(key)
        for place in flips(data, key) if data else ():
            altered = bytearray(data)
            altered[place] ^= 1 << (place % 7)
            copy.put(key, bytes(altered))
            tried += 1
            if copy.look(reads_all=True).status() == 0 and not is_the_same(data, bytes(altered)):
                missed.append((key, place))
        copy.put(key, data)
    assert not [(key, place) for key, place in missed if not key.startswith(HARMLESS)]
    assert tried > 150


def is_the_same(one: bytes, other: bytes) -> bool:
    """Tell whether two envelopes say the same: base64 has bits in its last letter that nobody reads."""
    try:
        return read_envelope(one, what="one") == read_envelope(other, what="other")
    except CodecError:
        return False
