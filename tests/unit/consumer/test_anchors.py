"""By what a federation is known, and what answers in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation_keys import TinyTrust

from coldfuse.consumer.anchors import Anchor, find_anchor, require_unknown
from coldfuse.errors import CodecError, SignatureError, UnknownRootError, UserInputError
from coldfuse.trust.home import FederationFolder, Membership, check_fingerprint
from coldfuse.trust.reading import MAX_ROOT_BYTES
from coldfuse.trust.seen import Memory

PLACE = "gateway.example.org:7700"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def find(trust: TinyTrust | None, home: Path, *, root: str | None = None, place: str = PLACE) -> Anchor | None:
    return find_anchor(trust.stored.get if trust else lambda _: None, place, home=home, root=root)


def test_a_root_that_nothing_is_known_of_is_refused_and_not_remembered(home: Path) -> None:
    for _ in range(2):
        with pytest.raises(UnknownRootError, match=r"give --root FINGERPRINT .* or join with an invitation"):
            find(TinyTrust(), home)
    assert not home.exists()


def test_a_fingerprint_that_was_given_is_remembered(home: Path) -> None:
    trust = TinyTrust()
    given = find(trust, home, root=trust.fingerprint.upper())
    assert given == find(trust, home)
    assert given is not None
    assert given.folder.pinned_root() == trust.stored["root/1.json"]


def test_a_fingerprint_that_was_given_is_anothers(home: Path) -> None:
    trust = TinyTrust()
    with pytest.raises(SignatureError, match=f"has the fingerprint .*, expected {trust.fingerprint}"):
        find(TinyTrust(), home, root=trust.fingerprint)
    assert not home.exists()


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, "../" + "a" * 61])
def test_what_is_no_fingerprint_is_said(text: str) -> None:
    with pytest.raises(UserInputError, match="is no fingerprint of a federation: expected 64 characters"):
        check_fingerprint(text)


def test_a_federation_without_a_root_is_taken_where_none_is_known(home: Path) -> None:
    assert find(None, home) is None
    with pytest.raises(SignatureError, match="hands out no root, expected that of federation aaaa"):
        find(None, home, root="a" * 64)


@pytest.mark.parametrize("known_by", ["root", "visit", "invitation"])
def test_a_place_that_had_a_root_cannot_do_without(home: Path, known_by: str) -> None:
    trust = TinyTrust()
    folder = FederationFolder(home, trust.fingerprint)
    if known_by == "root":
        find(trust, home, root=trust.fingerprint)
    else:
        folder.pin_root(trust.stored["root/1.json"])
    if known_by == "visit":
        find(trust, home)
    if known_by == "invitation":
        folder.keep_membership(Membership(federation=trust.fingerprint, name="ada", address=PLACE))
    with pytest.raises(SignatureError, match="pretends that nothing there is signed"):
        find(None, home)
    assert find(None, home, place="elsewhere:7700") is None


def test_who_goes_by_the_name_of_a_known_federation_needs_its_root(home: Path) -> None:
    trust = TinyTrust()
    find(trust, home, root=trust.fingerprint)
    with pytest.raises(SignatureError, match="hands out no root"):
        require_unknown(trust.fingerprint, "elsewhere:1", home=home)
    require_unknown("b" * 64, "elsewhere:1", home=home)


def test_another_known_federation_does_not_answer_in_the_place_of_one(home: Path) -> None:
    first, second = TinyTrust(), TinyTrust()
    find(first, home, root=first.fingerprint)
    find(second, home, root=second.fingerprint, place="elsewhere:1")
    with pytest.raises(SignatureError, match=f"was known as federation {first.fingerprint[:16]}, and answers as"):
        find(second, home)
    moved = find(second, home, root=second.fingerprint)
    assert moved == find(second, home)  # from then on that is what is there
    assert PLACE not in Memory(FederationFolder(home, first.fingerprint)).seen().sources


def test_a_folder_is_the_same_wherever_one_stands(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    trust = TinyTrust()
    monkeypatch.chdir(tmp_path)
    find(trust, home, root=trust.fingerprint, place="store")
    with pytest.raises(SignatureError):
        find(None, home, place=f"{tmp_path}/store/")


def test_a_root_that_never_ends_is_not_parsed(home: Path) -> None:
    with pytest.raises(CodecError, match="expected at most 512,000 bytes, and there are more; it is not read"):
        find_anchor(lambda _: b" " * (MAX_ROOT_BYTES + 1), PLACE, home=home)


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", b'{"payload": "e30=", "payloadType": "x"}'])
def test_what_is_no_root_is_refused(home: Path, data: bytes) -> None:
    with pytest.raises(CodecError):
        find_anchor(lambda _: data, PLACE, home=home)


def test_two_fingerprints_that_begin_alike_are_two(home: Path) -> None:
    first, second = TinyTrust(), TinyTrust()
    folder = FederationFolder(home, first.fingerprint)
    folder.pin_root(second.stored["root/1.json"])
    with pytest.raises(UnknownRootError):
        find(first, home)
