"""What a manifest may claim: every value is of its type and within its bounds, and is said once."""

from __future__ import annotations

import json

import pytest
from federations import make_delta, make_manifest

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest, Score
from coldfuse.core.round import EVENT, Opened
from coldfuse.core.screening import screen_claims
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import decode, decode_any, encode, sha256
from coldfuse.errors import CodecError

MANIFEST = json.loads(encode(make_manifest(make_delta([10]).blob)))
SCORE = {"metric": "accuracy", "before": 0.5, "after": 0.75}
DIGEST = "0" * 64


def read(document: dict[str, object]) -> ContributionManifest:
    return decode(ContributionManifest, json.dumps(document).encode(), what="manifest")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in ("num_examples", "num_steps", "round", "base_release", "version")
          for value in ("5", True, 1.0, None, -1, 2**64, 10**400, [1], {})),
        ("num_examples", 0),
        ("num_examples", 2**40 + 1),
        ("round", 10**300),
        ("encoding", ""),
        ("encoding", "F32 "),
        ("encoding", 32),
        ("trained", "x" * 49),
        ("trained", "full\n"),
        ("task", "\x1b[2J"),
        ("mask", {"parts": [{"digest": "x", "size_bytes": 1}]}),
        ("score", SCORE | {"after": "0.75"}),
        ("score", SCORE | {"after": True}),
        ("score", SCORE | {"before": float("inf")}),
        ("score", SCORE | {"metric": "a\x1b[2J"}),
        ("score", SCORE | {"metric": "\u202ereversed"}),
        ("score", SCORE | {"metric": "m" * 65}),
        ("software", {f"library{i}": "1.0" for i in range(65)}),
        ("software", {"torch": "1" * 65}),
        ("software", {"torch": "\x1b]0;owned\x07"}),
        ("software", {"torch": 2}),
        ("contributor", "ada\n"),
        ("delta", {"parts": [{"digest": DIGEST, "size_bytes": 2**63}]}),
        ("delta", {"parts": [{"digest": DIGEST, "size_bytes": "10"}]}),
        ("delta", {"parts": {"0": {"digest": DIGEST, "size_bytes": 10}}}),
    ],
)  # fmt: skip
def test_what_is_no_such_value_is_refused_in_one_line(field: str, value: object) -> None:
    with pytest.raises(CodecError) as error:
        read(MANIFEST | {field: value})
    assert str(error.value).startswith(f"manifest: {field}")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("digits", [5000, 1_000_000])
def test_a_number_of_a_million_digits_is_refused(digits: int) -> None:
    text = json.dumps(MANIFEST).replace('"num_examples": 100', f'"num_examples": {"9" * digits}')
    with pytest.raises(CodecError, match="manifest: "):
        decode(ContributionManifest, text.encode(), what="manifest")


@pytest.mark.parametrize(
    "twice",
    [
        '"num_examples": 100, "num_examples": 5',
        '"num_examples": 100, "score": {"before": 0.1, "after": 0.2, "after": 0.9}',
        '"num_examples": 100, "unknown": {"a": 1, "a": 2}',
        '"num_examples": 100, "software": {"torch": "1", "torch": "2"}',
        '"num_examples": 100, "num\\u005fexamples": 100',
    ],
)
def test_what_is_said_twice_is_refused(twice: str) -> None:
    text = json.dumps(MANIFEST).replace('"num_examples": 100', twice)
    with pytest.raises(CodecError, match="is said twice"):
        decode(ContributionManifest, text.encode(), what="manifest")


def test_stored_entries_are_read_as_strictly() -> None:
    entry = json.loads(encode(Opened(base_release=0, base_digest=DIGEST, opened_at_s=1.0)))
    assert decode_any(EVENT, json.dumps(entry).encode(), what="entry") == Opened.model_validate(entry)
    for different in ({"base_release": "0"}, {"base_release": True}, {"opened_at_s": "now"}):
        with pytest.raises(CodecError):
            decode_any(EVENT, json.dumps(entry | different).encode(), what="entry")
    with pytest.raises(CodecError, match="is said twice"):
        decode_any(EVENT, json.dumps(entry)[:-1].encode() + b', "base_release": 1}', what="entry")


def test_a_number_that_is_whole_is_a_score_too() -> None:
    assert read(MANIFEST | {"score": SCORE | {"after": 1}}).score == Score(before=0.5, after=1.0)


def test_what_an_older_version_has_admitted_can_still_be_read() -> None:
    claimed = {"contribution": DIGEST, "contributor": "ada", "delta_digest": DIGEST, "num_examples": 10**400}
    admission = decode(Admission, json.dumps(claimed).encode(), what="entry")
    assert (admission.num_examples, admission.measured) == (10**400, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"num_examples": 10**9, "num_steps": 10**6}, None),
        ({"num_examples": 10**9, "num_steps": 0}, None),
        ({"num_examples": 10**9 + 1}, "it claims 1,000,000,001 examples, at most 1,000,000,000 are taken"),
        ({"num_examples": 10**6, "num_steps": 10}, "it claims 1,000,000 examples in 10 steps, which no training sees"),
    ],
)
def test_claims_that_cannot_be_are_told_so(changes: dict[str, int], reason: str | None) -> None:
    manifest = make_manifest(make_delta([10]).blob, **changes)
    told = screen_claims(manifest, ScreeningRules())
    assert told == reason or (reason is not None and told is not None and told.startswith(reason))
    assert screen_claims(manifest, ScreeningRules.off()) is None


def test_a_small_delta_is_not_cut_into_thousands_of_parts() -> None:
    parts = tuple(Part(digest=sha256(bytes([i % 256, i // 256])), size_bytes=1) for i in range(20_000))
    told = screen_claims(make_manifest(Blob(parts=parts)), ScreeningRules())
    assert told == "its 20,000 bytes are cut into 20,000 parts, at most 64 are taken"


def test_a_manifest_has_the_digest_that_older_versions_gave_it() -> None:
    """A node of an older version may have sent it, and asks by that name what became of it."""
    manifest = ContributionManifest.model_validate({
        "federation": "f" * 64, "contributor": "ada", "round": 3, "base_release": 2, "base_digest": "b" * 64,
        "encoding": "BF16", "num_examples": 10, "num_steps": 5, "delta_digest": "d" * 64,
        "delta": {"parts": [{"digest": "c" * 64, "size_bytes": 7}]}, "score": {"before": 0.5, "after": 0.75},
        "software": {"torch": "2.13"},
    })  # fmt: skip
    assert sha256(encode(manifest)) == "14d10a683147466a4cdff660d1c0ff46ac6a0d42ebbef2c92ca3e05bb5f32ae3"


def test_what_is_new_in_a_manifest_is_read_again() -> None:
    mask = Blob(parts=(Part(digest="e" * 64, size_bytes=9),))
    score = Score(metric="perplexity", before=9.0, after=3.0, higher_is_better=False)
    manifest = ContributionManifest.model_validate(
        MANIFEST | {"trained": "lora", "task": "fill-mask", "mask": mask, "score": score}
    )
    assert decode(ContributionManifest, encode(manifest), what="manifest") == manifest
    assert manifest.parts == (*manifest.delta.parts, *mask.parts)
