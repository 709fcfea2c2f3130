"""The signature of a model's folder: what is written, what is refused, and the vectors of the specification."""

import base64
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from coldfuse.core.serialization import MAX_MANIFEST_BYTES, canonical_json, sha256
from coldfuse.errors import CodecError, SignatureError
from coldfuse.trust.envelope import detached
from coldfuse.trust.keys import PrivateKey, PublicKey
from coldfuse.trust.model_signature import IGNORED, read_signature, sign_files

VECTORS = Path(__file__).parents[2] / "data" / "model_signing"
VECTORS_KEY = PublicKey(scheme="ecdsa-sha2-nistp384", pem=(VECTORS / "key.pem").read_text())
KEY, OTHER = PrivateKey.generate_p256(), PrivateKey.generate_p256()
FILES = {"model.safetensors": sha256(b"weights"), "config.json": sha256(b"{}"), "1_Pooling/config.json": sha256(b"[]")}


def signed() -> bytes:
    return sign_files(FILES, name="ward/12", signer=KEY)


def resigned(statement: object) -> bytes:
    """Return a bundle with another statement, signed as it should be: the signer itself is at fault."""
    payload = statement if isinstance(statement, bytes) else json.dumps(statement).encode()
    bundle = json.loads(signed())
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = detached(payload, "provenance", KEY).sig
    return canonical_json(bundle)


def statement_of(bundle: bytes) -> dict:
    return json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))


def test_what_was_signed_is_read_again() -> None:
    found = read_signature(signed(), [KEY.public])
    assert found.digests == FILES
    assert (found.name, set(found.ignored)) == ("ward/12", set(IGNORED))


def test_signing_twice_gives_the_same_bytes() -> None:
    assert signed() == sign_files(
        dict(reversed(FILES.items())), name="ward/12", signer=PrivateKey.from_pem(KEY.pem(), what="a copy")
    )


def test_what_is_written_fits_the_schemas_of_the_specification() -> None:
    schemas = {path.name.partition(".")[0]: json.loads(path.read_text()) for path in VECTORS.glob("schemas/*.json")}
    registry = Registry().with_resources((each["$id"], Resource.from_contents(each)) for each in schemas.values())
    for name, document in (("bundle", json.loads(signed())), ("statement", statement_of(signed()))):
        validator = Draft202012Validator(schemas[name], registry=registry)
        validator.validate(document)
        with pytest.raises(ValidationError):
            validator.validate(document | {"more": 1})


def test_another_key_is_refused_by_its_name() -> None:
    with pytest.raises(SignatureError, match="is made with key"):
        read_signature(signed(), [OTHER.public])


def test_a_key_that_only_claims_to_be_the_right_one_is_refused() -> None:
    forged = json.loads(sign_files(FILES, name="ward/12", signer=OTHER))
    forged["verificationMaterial"] = json.loads(signed())["verificationMaterial"]
    with pytest.raises(SignatureError, match="altered or forged"):
        read_signature(canonical_json(forged), [KEY.public])


@pytest.mark.parametrize("name", ["key", "folder/model.sig"])
def test_bundles_of_the_reference_tool_are_read(name: str) -> None:
    path = VECTORS / (name if "/" in name else f"{name}.bundle.json")
    found = read_signature(path.read_bytes(), [VECTORS_KEY])
    assert found.digests == {f"signme-{number}": digest for number, digest in ((1, FIRST), (2, SECOND))}
    assert "ignore-me" in found.ignored


FIRST = sha256((VECTORS / "folder" / "signme-1").read_bytes())
SECOND = sha256((VECTORS / "folder" / "signme-2").read_bytes())

REFUSED = [
    "certificate", "missing-envelope", "missing-verification-material", "empty", "missing-tlog-entries",
    "wrong-predicate",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_vectors_of_what_is_refused_are_refused(name: str) -> None:
    with pytest.raises((SignatureError, CodecError)):
        read_signature((VECTORS / f"{name}.bundle.json").read_bytes(), [VECTORS_KEY])


def test_all_vectors_are_used() -> None:
    used = {"key", *REFUSED}
    assert {path.name.removesuffix(".bundle.json") for path in VECTORS.glob("*.bundle.json")} == used


def test_what_is_written_keeps_the_order_that_the_specification_asks_for() -> None:
    names = ["a.json", "b/a.json", "Z.json", "ä.json", "\U0001f600.json", "\uffee.json"]
    bundle = sign_files(dict.fromkeys(names, "0" * 64), name="x", signer=KEY)
    found = [resource["name"] for resource in statement_of(bundle)["predicate"]["resources"]]
    assert found == ["Z.json", "a.json", "b/a.json", "ä.json", "\uffee.json", "\U0001f600.json"]  # by code point


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/../../b", "./a", "a//b", "a/", "", "a\\b", "a\0b", ".", "..", "\udcff"]
)
def test_paths_that_leave_the_folder_are_neither_signed_nor_read(path: str) -> None:
    with pytest.raises(SignatureError):
        sign_files({path: "0" * 64}, name="x", signer=KEY)
    statement = statement_of(signed())
    statement["predicate"]["resources"] = [{"name": path, "algorithm": "sha256", "digest": "0" * 64}]
    statement["subject"][0]["digest"]["sha256"] = sha256(bytes(32))
    with pytest.raises((SignatureError, CodecError)):
        read_signature(resigned(statement), [KEY.public])
    statement = statement_of(signed())
    statement["predicate"]["serialization"]["ignore_paths"] = [path]
    with pytest.raises((SignatureError, CodecError)):
        read_signature(resigned(statement), [KEY.public])


def change(statement: dict, *path: object, to: object) -> dict:
    """Set a value that lies under some keys and indices."""
    place = statement
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return statement


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "https://slsa.dev/provenance/v1"),
        (("subject",), []),
        (("subject", 0, "digest"), {"sha256": "0" * 64}),
        (("subject", 0, "digest"), {}),
        (("predicate", "resources"), []),
        (("predicate", "resources", 0, "digest"), "00"),
        (("predicate", "resources", 0, "algorithm"), "md5"),
        (("predicate", "resources", 0, "name"), "z"),
        (("predicate", "resources", 1), {"name": "1_Pooling/config.json", "algorithm": "sha256", "digest": "0" * 64}),
        (("predicate", "serialization", "method"), "shards"),
        (("predicate", "serialization", "hash_type"), "blake3"),
        (("predicate", "serialization", "allow_symlinks"), True),
        (("predicate", "serialization", "allow_symlinks"), 0),
        (("predicate", "serialization", "ignore_paths"), ["."]),
        (("predicate", "serialization", "ignore_paths"), "model.safetensors"),
        (("predicate",), None),
    ],
)
def test_a_statement_that_is_none_is_refused_though_it_is_signed(path: tuple, value: object) -> None:
    with pytest.raises((SignatureError, CodecError)):
        read_signature(resigned(change(statement_of(signed()), *path, to=value)), [KEY.public])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("mediaType",), "application/json"),
        (("verificationMaterial", "publicKey", "hint"), "\x1b[2J"),
        (("verificationMaterial",), {"certificate": {"rawBytes": "MIIC"}}),
        (("dsseEnvelope", "payload"), "%%%"),
        (("dsseEnvelope", "payload"), ""),
        (("dsseEnvelope", "payloadType"), "application/vnd.coldfuse.release+json"),
        (("dsseEnvelope", "signatures"), []),
        (("dsseEnvelope", "signatures", 0, "sig"), ""),
        (("dsseEnvelope", "signatures", 0, "sig"), "AAAA"),
        (("dsseEnvelope", "signatures", 0, "sig"), "é"),
        (("dsseEnvelope", "signatures", 0, "sig"), 7),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_printable_line(path: tuple, value: object) -> None:
    bundle = canonical_json(change(json.loads(signed()), *path, to=value))
    with pytest.raises((SignatureError, CodecError)) as caught:
        read_signature(bundle, [KEY.public])
    assert str(caught.value).isprintable()


def test_every_flipped_byte_of_the_payload_or_the_signature_is_noticed() -> None:
    bundle = json.loads(signed())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    for index in range(0, len(payload), 7):
        bent = bytes((*payload[:index], payload[index] ^ 1, *payload[index + 1 :]))
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(bent).decode()
        with pytest.raises(SignatureError, match="altered or forged"):
            read_signature(canonical_json(bundle), [KEY.public])


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000, b" " * (MAX_MANIFEST_BYTES + 1)],
    ids=["nothing", "null", "list", "cut", "no-text", "twice", "deep", "long"],
)
def test_bytes_that_are_no_bundle_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        read_signature(data, [KEY.public])
    with pytest.raises(CodecError):
        read_signature(resigned(data[:1000]), [KEY.public])


def test_a_name_that_is_said_twice_is_refused_though_it_is_signed() -> None:
    payload = json.dumps(statement_of(signed())).replace('"subject"', '"subject": [], "subject"', 1)
    with pytest.raises(CodecError, match="twice"):
        read_signature(resigned(payload.encode()), [KEY.public])


def test_a_key_that_signs_no_models_is_refused_by_what_it_is() -> None:
    key = PrivateKey.generate()
    with pytest.raises(SignatureError, match="is for ed25519"):
        read_signature(signed(), [key.public])
    with pytest.raises(SignatureError, match="is for ed25519"):
        sign_files(FILES, name="x", signer=key)


def test_one_of_several_keys_is_enough_and_no_key_is_not() -> None:
    assert read_signature(signed(), [OTHER.public, KEY.public]).key == KEY.public
    with pytest.raises(SignatureError, match="no key at all"):
        read_signature(signed(), [])


def test_no_files_are_not_signed() -> None:
    with pytest.raises(SignatureError, match="no file"):
        sign_files({}, name="x", signer=KEY)
