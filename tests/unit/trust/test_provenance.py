"""What is said of a release's making: complete, the same each time, and about no other release."""

import json

import pytest

from coldfuse.core.federation import RoundRules, Terms
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.core.serialization import canonical_json, encode, sha256
from coldfuse.errors import CodecError, SignatureError
from coldfuse.trust.envelope import sign, verified
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.provenance import read_statement, require_about, statement_of

PARENT, HEAD, FILES = sha256(b"parent"), sha256(b"head"), sha256(b"files")
TERMS = Terms(rules=RoundRules(quorum=3), method="ties(density=0.3)")


def fused(name: str) -> FusedContribution:
    return FusedContribution(
        contribution=sha256(name.encode()), contributor=name, delta_digest="1" * 64, num_examples=10, weight=0.5
    )


def manifest_of(**different: object) -> ReleaseManifest:
    values: dict[str, object] = {
        "federation": "f" * 64, "release": 12, "parent": 11, "round": 14, "method": "ties(density=0.3)",
        "model_digest": "a" * 64, "files": {}, "contributions": (fused("ada"), fused("bob")), "created_at_s": 0.5,
        "software": {"coldfuse": "0.1"},
    }  # fmt: skip
    return ReleaseManifest.model_validate(values | different)


def made(manifest: ReleaseManifest, **different: object) -> bytes:
    values: dict[str, object] = {
        "digest": sha256(encode(manifest)), "parent": PARENT, "files": FILES, "terms": TERMS, "journal_head": HEAD
    }  # fmt: skip
    return statement_of(manifest, **values | different)  # type: ignore[arg-type]


def test_all_that_a_release_was_made_from_is_read_again() -> None:
    manifest = manifest_of()
    statement = read_statement(made(manifest))
    assert (statement.manifest, statement.model_digest) == (sha256(encode(manifest)), "a" * 64)
    assert (statement.parent, statement.contributions) == (PARENT, (sha256(b"ada"), sha256(b"bob")))
    assert statement.files == FILES
    assert (statement.journal_head, statement.parameters.terms) == (HEAD, TERMS)
    require_about(statement, manifest, digest=sha256(encode(manifest)))


def test_release_0_has_no_parent_and_may_have_no_journal() -> None:
    manifest = manifest_of(release=0, parent=None, round=0, method="base", contributions=())
    statement = read_statement(made(manifest, parent=None, terms=None, journal_head=None))
    assert (statement.parent, statement.contributions, statement.journal_head) == (None, (), None)
    require_about(statement, manifest, digest=sha256(encode(manifest)))


def test_it_has_the_form_of_in_toto_and_slsa() -> None:
    document = json.loads(made(manifest_of()))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["subject"][0] == {
        "name": "releases/00012.json", "digest": {"sha256": sha256(encode(manifest_of()))}
    }  # fmt: skip
    definition, run = document["predicate"]["buildDefinition"], document["predicate"]["runDetails"]
    assert definition.keys() == {"buildType", "externalParameters", "resolvedDependencies"}
    assert all(each["digest"].keys() == {"sha256"} for each in definition["resolvedDependencies"])
    assert run["metadata"]["finishedOn"] == "1970-01-01T00:00:00Z"
    assert (run["builder"]["id"], run["byproducts"][0]["digest"]) == (
        "https://coldfuse/aggregator/v1", {"sha256": HEAD},
    )  # fmt: skip


def test_it_is_made_of_the_same_bytes_each_time_and_travels_in_an_envelope() -> None:
    key, payload = PrivateKey.generate(), made(manifest_of())
    assert payload == made(manifest_of())
    envelope = sign(payload, "provenance", [key])
    assert json.loads(envelope)["payloadType"] == "application/vnd.in-toto+json"
    assert verified(envelope, "provenance", [key.public], what="x") == payload


@pytest.mark.parametrize("created_at_s", [1e300, -1e300, 1e18])
def test_a_time_of_no_calendar_is_left_out(created_at_s: float) -> None:
    run = json.loads(made(manifest_of(created_at_s=created_at_s)))["predicate"]["runDetails"]
    assert run["metadata"].keys() == {"invocationId"}


@pytest.mark.parametrize(
    "different",
    [
        {"federation": "e" * 64}, {"release": 13}, {"round": 15}, {"method": "mean"}, {"model_digest": "b" * 64},
        {"contributions": (fused("bob"), fused("ada"))}, {"contributions": (fused("ada"),)}, {"parent": None},
        {"created_at_s": 1.0},
    ],
    ids=lambda different: next(iter(different)),
)  # fmt: skip
def test_it_is_about_no_release_that_differs_in_anything(different: dict) -> None:
    statement, other = read_statement(made(manifest_of())), manifest_of(**different)
    with pytest.raises(SignatureError, match="about another release") as caught:
        require_about(statement, other, digest=sha256(encode(other)))
    assert str(caught.value).isprintable()
    if "created_at_s" not in different:  # said in so many words, and not only by the manifest's digest
        with pytest.raises(SignatureError, match="about another release"):
            require_about(statement, other, digest=statement.manifest)


def place(document: dict, path: tuple, value: object) -> bytes:
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return canonical_json(document)


DEFINITION, RUN = ("predicate", "buildDefinition"), ("predicate", "runDetails")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "https://model_signing/signature/v1.0"),
        (("subject",), []),
        (("subject", 0, "digest", "sha256"), "A" * 64),
        (("subject", 0, "digest", "sha256"), None),
        (("subject", 1, "digest"), {"sha256": "0" * 64}),
        ((*DEFINITION, "buildType"), "https://example.org/other"),
        ((*DEFINITION, "externalParameters"), None),
        ((*DEFINITION, "externalParameters", "release"), "12"),
        ((*DEFINITION, "externalParameters", "release"), -1),
        ((*DEFINITION, "externalParameters", "method"), "x" * 1001),
        ((*DEFINITION, "externalParameters", "terms"), {"rules": {"quorum": 0}, "method": "mean"}),
        ((*DEFINITION, "resolvedDependencies", 0, "name"), "malware"),
        ((*DEFINITION, "resolvedDependencies", 1, "digest"), {"md5": "0" * 32}),
        ((*DEFINITION, "resolvedDependencies", 1, "annotations", "contributor"), "\x1b[2J"),
        ((*RUN, "builder"), None),
        ((*RUN, "builder", "version"), {"coldfuse": "x" * 201}),
        ((*RUN, "byproducts"), [{"name": "journal", "digest": {"sha256": "0"}}]),
        ((*RUN, "byproducts"), [{"name": "journal", "digest": {"sha256": "0" * 64}}] * 2),
    ],
)
def test_what_is_no_statement_is_refused_in_one_printable_line(path: tuple, value: object) -> None:
    with pytest.raises(CodecError) as caught:
        read_statement(place(json.loads(made(manifest_of())), path, value))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b"\xff", b"[" * 100_000], ids=range(5))
def test_bytes_that_are_no_statement_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        read_statement(data)
