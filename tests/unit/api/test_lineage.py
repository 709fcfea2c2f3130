"""A release's history: complete, verified, read as far as it is shown, and safe to look at."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from federation_keys import TinyTrust, make_root

from coldfuse.api.lineage import describe_step, step_document, trace
from coldfuse.api.lineage_svg import lineage_svg
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import CodecError, FederationError, SignatureError
from coldfuse.gateway import ContributionSummary, ReleaseSummary
from coldfuse.gateway.answers import summarize
from coldfuse.trust.envelope import sign
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.lineage import SigningKeys, signing_keys
from coldfuse.trust.provenance import statement_key, statement_of
from coldfuse.trust.view import root_key

TRUST = TinyTrust()


@dataclass
class History:
    """A history in memory that counts what is read of it."""

    summaries: dict[int, ReleaseSummary] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    num_read: int = 0

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        for number in sorted(self.summaries, reverse=True):
            if before is None or number < before:
                self.num_read += 1
                yield self.summaries[number]

    def read_signed(self, key: str) -> bytes | None:
        return self.stored.get(key)


def contribution(name: str, number: int) -> FusedContribution:
    return FusedContribution(
        contribution=sha256(f"{name}{number}".encode()), contributor=name, delta_digest="1" * 64, num_examples=100,
        weight=0.5,
    )  # fmt: skip


def make_history(
    num: int, *, signer: PrivateKey = TRUST.aggregator, contributors: int = 2, parents: dict[int, int] | None = None
) -> History:
    """Make releases 0 to `num`, all signed."""
    history = History(stored=dict(TRUST.stored))
    digests: dict[int, str] = {}
    for number in range(num + 1):
        parent = (parents or {}).get(number, number - 1) if number else None
        manifest = ReleaseManifest(
            federation=TRUST.fingerprint, release=number, parent=parent, round=number,
            method="mean" if number else "base", model_digest=sha256(b"model%d" % number), files={},
            contributions=tuple(contribution(f"c{index}", number) for index in range(contributors if number else 0)),
            created_at_s=1e9 + number,
        )  # fmt: skip
        data = encode(manifest)
        digests[number] = sha256(data)
        payload = statement_of(
            manifest, digest=digests[number], parent=None if parent is None else digests[parent], files=None,
            terms=None, journal_head=sha256(b"head"),
        )  # fmt: skip
        history.summaries[number] = summarize(data)
        history.stored[statement_key(number)] = sign(payload, "provenance", [signer])
    return history


def keys_of(history: History) -> SigningKeys:
    return signing_keys(history.read_signed, fingerprint=TRUST.fingerprint)


def test_a_release_is_followed_to_the_base_with_its_signatures() -> None:
    history = make_history(3)
    steps = list(trace(history, keys_of(history)))
    assert [step.number for step in steps] == [3, 2, 1, 0]
    assert {step.signed.keyid for step in steps} == {TRUST.aggregator.public.id}
    assert not any(step.signed.problem for step in steps)
    assert [step.number for step in trace(history, keys_of(history), release=1)] == [1, 0]


def test_of_a_thousand_releases_as_many_are_read_as_are_shown() -> None:
    history = make_history(1000, contributors=1)
    steps = list(itertools.islice(trace(history, keys_of(history)), 20))
    assert [step.number for step in steps] == list(range(1000, 980, -1))
    assert history.num_read <= 21


def test_a_release_that_goes_on_from_an_older_one_skips_those_between() -> None:
    history = make_history(5, parents={5: 2})
    assert [step.number for step in trace(history, keys_of(history))] == [5, 2, 1, 0]
    assert history.num_read <= 5


def test_a_release_that_is_not_there_is_named_and_so_is_a_gap() -> None:
    history = make_history(3)
    with pytest.raises(FederationError, match="there is no release 9; the latest is 3"):
        next(trace(history, keys_of(history), release=9))
    del history.summaries[1]
    with pytest.raises(FederationError, match="there is no release 1, from which release 2 was made"):
        list(trace(history, keys_of(history)))


@pytest.mark.parametrize("parent", [2, 3, 10**9])
def test_a_history_that_runs_in_a_circle_ends(parent: int) -> None:
    history = make_history(3)
    history.summaries[2] = replace(history.summaries[2], parent=parent)
    with pytest.raises(CodecError, match="which came later"):
        list(trace(history, keys_of(history)))


def test_what_is_unsigned_is_said_to_be_and_what_is_signed_by_others_is_refused() -> None:
    history = make_history(2)
    del history.stored[statement_key(0)]
    history.stored[statement_key(1)] = make_history(2, signer=PrivateKey.generate()).stored[statement_key(1)]
    newest, middle, base = trace(history, keys_of(history))
    assert newest.signed.in_words == f"signed by aggregator {TRUST.aggregator.public.id[:12]}"
    assert middle.signed.in_words.startswith("REFUSED: releases/00001.sig: is signed by")
    assert base.signed.in_words == "unsigned"


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 10_000])
def test_a_damaged_signature_is_refused_and_the_rest_is_shown(damage: bytes) -> None:
    history = make_history(2)
    history.stored[statement_key(1)] = damage
    steps = list(trace(history, keys_of(history)))
    assert [bool(step.signed.problem) for step in steps] == [False, True, False]
    assert describe_step(steps[1]).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"round": 7}, "round"), ({"method": "ties"}, "method"), ({"contributions": ()}, "list of contributions"),
        ({"num_contributions": 0, "contributions": ()}, "list of contributions"), ({"parent": None}, "parents"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_source_that_tells_another_story_than_was_signed_is_found_out(change: dict, what: str) -> None:
    history = make_history(2)
    history.summaries[2] = replace(history.summaries[2], **change)
    problem = next(trace(history, keys_of(history))).signed.problem
    if change == {"contributions": ()}:  # as a gateway of an older version tells it: two, and no names
        assert problem is None
    else:
        assert problem is not None
        assert what in problem


def test_a_release_that_was_exchanged_is_found_out_by_its_child() -> None:
    history, other = make_history(2), make_history(2, contributors=3)
    history.summaries[1] = other.summaries[1]
    history.stored[statement_key(1)] = other.stored[statement_key(1)]  # both signed by the right key
    steps = list(trace(history, keys_of(history)))
    assert steps[1].signed.problem == (
        f"release 2 was made from another manifest, {make_history(2).summaries[1].name.manifest_digest[:12]}"
    )


def rotated() -> tuple[History, PrivateKey]:
    """Return a history whose newest root names another aggregator, by whom nothing is signed yet."""
    history, new = make_history(1), PrivateKey.generate()
    keys = {"root": [TRUST.operator], "operator": [TRUST.operator], "aggregator": [new], "model": [TRUST.model]}
    root = make_root(keys, version=2)  # type: ignore[arg-type]
    history.stored[root_key(2)] = sign(encode(root), "root", [TRUST.operator])
    return history, new


def test_a_key_that_was_replaced_is_known_by_the_root_that_named_it() -> None:
    history, new = rotated()
    assert keys_of(history).current == {new.public.id}
    step = next(trace(history, keys_of(history)))
    assert step.signed.keyid == TRUST.aggregator.public.id
    assert step.signed.in_words.endswith("a key that was replaced since")


def test_a_root_of_others_is_refused_and_a_hidden_one_too() -> None:
    history = make_history(1)
    with pytest.raises(SignatureError, match="another federation"):
        signing_keys(history.read_signed, fingerprint="0" * 64)
    del history.stored[root_key(1)]
    with pytest.raises(SignatureError, match="somebody hides it"):
        keys_of(history)
    step = next(trace(history, signing_keys(history.read_signed)))
    assert "which is not known here" in step.signed.in_words
    assert step.signed.keyid is None


def test_words_name_everything_and_bound_it() -> None:
    history = make_history(1, contributors=30)
    newest, base = trace(history, keys_of(history))
    lines = describe_step(newest).splitlines()
    assert lines[0] == f"release 1  2001-09-09 01:46:41  model {sha256(b'model1')[:16]}"
    assert lines[1:3] == ["│ on release 0, round 1: mean", f"│ {newest.signed.in_words}"]
    assert lines[3] == f"├─ c0: 100 examples, weight 0.5, {sha256(b'c01')[:12]}"
    assert lines[-1] == "├─ 22 contributions more"
    assert len(lines) == 3 + 8 + 1
    assert describe_step(base).splitlines()[1] == "│ the base: base"


def test_json_has_everything() -> None:
    history = make_history(1, contributors=30)
    document = json.loads(json.dumps(step_document(next(trace(history, keys_of(history))))))
    assert (document["release"], document["parent"], document["problem"]) == (1, 0, None)
    assert document["signed_by"] == TRUST.aggregator.public.id
    assert len(document["contributions"]) == 30
    assert document["journal_head"] == sha256(b"head")


HOSTILE = [
    "</text><script>alert(1)</script>",
    "a\x1b[2Jb",
    "\x00\x01",
    "]]>&<!--",
    "\ud800",
    "\u202eevil",
    '"onload="x',
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_words_break_out_of_neither_picture_nor_terminal(name: str) -> None:
    history = make_history(1)
    hostile = ContributionSummary(
        contributor=name, display_name=name, num_examples=1, weight=float("nan"), contribution="0" * 64
    )
    history.summaries[1] = replace(history.summaries[1], contributions=(hostile,), num_contributions=1, method=name)
    steps = list(trace(history, keys_of(history)))
    assert all(line.isprintable() for step in steps for line in describe_step(step).split("\n"))
    picture = lineage_svg(steps, older=3)
    tree = ET.fromstring(picture.encode())
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert tags == {"svg", "style", "rect", "title", "line", "text"}
    assert not any(key.startswith("on") or "href" in key for element in tree.iter() for key in element.attrib)


def test_the_picture_shows_each_release_and_who_has_signed_it() -> None:
    history = make_history(2)
    del history.stored[statement_key(0)]
    texts = [element.text for element in ET.fromstring(lineage_svg(list(trace(history, keys_of(history))))).iter()]
    for word in ("release 2", "release 1", "release 0"):
        assert sum(bool(text) and text.startswith(f"{word} ") for text in texts) == 1
    assert sum(bool(text) and text.startswith("signed by aggregator") for text in texts) == 2
    assert "unsigned" in texts
    assert sum(bool(text) and text.startswith("c1: ") for text in texts) == 2


def test_a_picture_of_a_long_history_grows_by_its_releases_alone() -> None:
    history = make_history(60, contributors=100)
    picture = lineage_svg(list(trace(history, keys_of(history))))
    assert len(picture) < 61 * 2500
    ET.fromstring(picture)
