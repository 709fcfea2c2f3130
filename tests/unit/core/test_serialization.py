from __future__ import annotations

import json

import pytest
from federations import make_manifest

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import EVENT, Opened
from coldfuse.core.serialization import (
    MAX_MANIFEST_BYTES,
    blob_digest,
    canonical_json,
    decode,
    decode_any,
    encode,
    sha256,
)
from coldfuse.errors import CodecError, DigestMismatchError

MANIFEST = make_manifest(Blob(parts=(Part(digest=sha256(b"x"), size_bytes=1),)), software={"b": "2", "a": "1"})


def changed(**changes: object) -> bytes:
    return json.dumps(json.loads(encode(MANIFEST)) | changes).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(CodecError) as caught:
        decode(ContributionManifest, data, what="manifest")
    message = str(caught.value)
    assert message.startswith("manifest: ")
    assert message.isprintable()
    assert len(message) < 600
    return message


def test_encoding_is_canonical() -> None:
    again = json.loads(encode(MANIFEST))
    assert encode(MANIFEST) == canonical_json(dict(reversed(again.items())))
    assert b" " not in encode(MANIFEST)
    assert list(again) == sorted(again)
    assert decode(ContributionManifest, encode(MANIFEST), what="m") == MANIFEST


def test_text_stays_text() -> None:
    assert canonical_json({"θ": "δ"}) == '{"θ":"δ"}'.encode()


def test_what_is_no_number_is_not_written() -> None:
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical_json(number)


REFUSED = [
    (b"", "Invalid JSON"),
    (b"{", "Invalid JSON"),
    (b"[" * 100_000, "Invalid JSON"),
    (b"[]", "document: "),
    (b"null", "document: "),
    (b'{"version": 1}', "federation: Field required"),
    (changed(round=0), "round: "),
    (changed(contributor="Ada\n"), "contributor: "),
    (changed(contributor="../ada"), "contributor: "),
    (changed(federation="A" * 64), "federation: "),
    (changed(delta_digest="0" * 64 + "\n"), "delta_digest: "),
    (changed(version=2), "version: "),
    (changed(delta={"parts": [{"digest": "0" * 64, "size_bytes": -1}]}), "delta.parts.0.size_bytes: "),
    (changed(score={"before": 1, "after": 1, "metric": "x" * 65}), "score.metric: "),
    (changed(num_examples=2**40 + 1), "num_examples: "),
    (changed(num_examples=10**400), "num_examples: "),
    (changed(num_steps=2**64), "num_steps: "),
    (changed(round=2**64), "round: "),
    (changed(software={"a\n\x1b[31m" + "b" * 5000: "1"}), "software.a??[31m"),
    (changed(software={"a": "b" * 10_000}), "software.a: "),
    (changed(num_examples="many"), "num_examples: "),
    (encode(MANIFEST).replace(b'"num_examples":100', b'"num_examples":NaN'), "num_examples: "),
    (encode(MANIFEST).replace(b'"num_steps":10', b'"num_steps":1' + b"0" * 5000), "number out of range"),
    (encode(MANIFEST).replace(b'"ada"', b'"\\ud800"'), "Invalid JSON"),
    (b"\xff\xfe", "Invalid JSON"),
]


def test_refusals_name_the_place_in_one_short_line() -> None:
    for data, says in REFUSED:
        assert says in refusal(data)


def test_too_long_a_manifest_is_not_parsed() -> None:
    assert "at most 8,388,608 are taken" in refusal(b" " * (MAX_MANIFEST_BYTES + 1))


def test_the_digest_is_checked_before_anything_is_parsed() -> None:
    with pytest.raises(DigestMismatchError, match="the object was altered"):
        decode(ContributionManifest, b"no JSON at all", what="m", digest=sha256(b"other"))


def test_fields_of_newer_versions_are_ignored() -> None:
    assert decode(ContributionManifest, changed(colour="red"), what="m") == MANIFEST


def test_events_are_told_apart_by_their_names() -> None:
    event = Opened(base_release=0, base_digest=sha256(b"x"), opened_at_s=1.0)
    assert decode_any(EVENT, encode(event), what="e") == event
    with pytest.raises(CodecError, match="document: Input tag") as caught:
        decode_any(EVENT, json.dumps({"event": "x\n" * 5000}).encode(), what="e")
    assert len(str(caught.value)) < 600


def test_a_blobs_digest_is_that_of_its_list_of_parts() -> None:
    parts = tuple(Part(digest=sha256(bytes([i])), size_bytes=i) for i in range(3))
    rows = json.dumps([[part.digest, part.size_bytes] for part in parts], separators=(",", ":")).encode()
    assert blob_digest(Blob(parts=parts)) == sha256(rows)
    assert blob_digest(Blob(parts=parts[::-1])) != sha256(rows)
