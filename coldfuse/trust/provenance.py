"""What a release was made from, as SLSA provenance v1 in an in-toto statement v1: a form that other tools read.

The subject is the release's manifest, by the SHA-256 of its bytes, and with it the model's tensors and files.
Dependencies are the parent's manifest and every contribution; parameters are the round's terms. The head of the
journal's chain is a by-product: whoever has that, has every verdict of the round. The aggregator signs it as a DSSE
envelope, which lies at `releases/<n>.sig` and in a fetched folder.
Sources: https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation/tree/main/spec/v1
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.federation import Terms
from coldfuse.core.release import MAX_METHOD_CHARS, ReleaseManifest
from coldfuse.core.serialization import canonical_json, decode
from coldfuse.core.value import Digest, Name, Value
from coldfuse.errors import SignatureError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://coldfuse/fusion/v1"
"""Says what the parameters mean: those of `Parameters`."""
BUILDER = "https://coldfuse/aggregator/v1"

MODEL_DIGEST = "coldfuseModel"
"""Name of the digest over a model's tensors, whatever the files: it is no SHA-256 of any file's bytes."""


class _Sha256(Value):
    sha256: Digest


class _Annotations(Value):
    """What is known of a dependency beside its digest."""

    release: Count | None = None
    """Number of the release, where it is the parent."""
    contributor: Name | None = None
    """Id of its contributor, where it is a contribution."""
    examples: Annotated[int, Field(ge=1)] | None = None
    """Number of examples, as it was claimed."""
    weight: float | None = None
    """Weight, before normalisation."""


class Dependency(Value):
    """What a release was made from."""

    name: Literal["parent", "contribution"]
    digest: _Sha256
    annotations: _Annotations = Field(default_factory=_Annotations)


class Parameters(Value):
    """What was asked for."""

    federation: Digest
    release: Count
    round: Count
    method: Annotated[str, Field(max_length=MAX_METHOD_CHARS)]
    terms: Terms | None = None
    """Terms of the round; None where it has kept none."""


class _BuildDefinition(Value):
    build_type: Literal["https://coldfuse/fusion/v1"] = Field(alias="buildType")
    parameters: Parameters = Field(alias="externalParameters")
    dependencies: tuple[Dependency, ...] = Field(default=(), alias="resolvedDependencies")


class _Builder(Value):
    id: Literal["https://coldfuse/aggregator/v1"]
    version: dict[Name, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict)


class _Byproduct(Value):
    name: Literal["journal"]
    digest: _Sha256


class _RunDetails(Value):
    builder: _Builder
    byproducts: Annotated[tuple[_Byproduct, ...], Field(max_length=1)] = ()


class _Predicate(Value):
    definition: _BuildDefinition = Field(alias="buildDefinition")
    run: _RunDetails = Field(alias="runDetails")


class _DigestSubject(Value):
    digest: _Sha256


class _ModelDigest(Value):
    model: Digest = Field(alias=MODEL_DIGEST)


class _ModelSubject(Value):
    digest: _ModelDigest


class Statement(Value):
    """A statement, as it was read; what has signed it is another question."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[_DigestSubject, _ModelSubject] | tuple[_DigestSubject, _ModelSubject, _DigestSubject]
    predicate_type: Literal["https://slsa.dev/provenance/v1"] = Field(alias="predicateType")
    predicate: _Predicate

    @property
    def manifest(self) -> str:
        """SHA-256 of the bytes of the release's manifest."""
        return self.subject[0].digest.sha256

    @property
    def model_digest(self) -> str:
        """Digest of the release's tensors."""
        return self.subject[1].digest.model

    @property
    def files(self) -> str | None:
        """Subject of the model signature over the release's files, which so belongs to this release and no other.

        None where its aggregator signs no folders.
        """
        return self.subject[2].digest.sha256 if len(self.subject) == 3 else None

    @property
    def parameters(self) -> Parameters:
        """What was asked for."""
        return self.predicate.definition.parameters

    @property
    def parent(self) -> str | None:
        """SHA-256 of the parent's manifest; None for release 0."""
        found = [each for each in self.predicate.definition.dependencies if each.name == "parent"]
        return found[0].digest.sha256 if found else None

    @property
    def num_parents(self) -> int:
        """Number of parents that it names: a release has one at most."""
        return sum(each.name == "parent" for each in self.predicate.definition.dependencies)

    @property
    def contributions(self) -> tuple[str, ...]:
        """Digests of the contributions' manifests, in the order of fusing."""
        dependencies = self.predicate.definition.dependencies
        return tuple(each.digest.sha256 for each in dependencies if each.name == "contribution")

    @property
    def journal_head(self) -> str | None:
        """Head of the journal's chain when the release was signed; None where nobody kept one."""
        return self.predicate.run.byproducts[0].digest.sha256 if self.predicate.run.byproducts else None


def statement_key(number: int) -> str:
    """Return the key of the signed statement on a release's making."""
    return f"releases/{number:05d}.sig"


def statement_of(
    manifest: ReleaseManifest,
    *,
    digest: str,
    parent: str | None,
    files: str | None,
    terms: Terms | None,
    journal_head: str | None,
) -> bytes:
    """Return the statement on a release, the same bytes for the same release.

    Args:
        manifest: The release's manifest.
        digest: SHA-256 of the manifest's bytes, as they are stored.
        parent: The same of its parent's; None for release 0.
        files: Subject of the model signature over its files; None where there is none.
        terms: What its round was opened with.
        journal_head: Head of the journal's chain.
    """
    parameters = {"federation": manifest.federation, "release": manifest.release, "round": manifest.round}
    parameters |= {"method": manifest.method} | ({"terms": terms.model_dump(mode="json")} if terms else {})
    dependencies: list[dict[str, object]] = []
    if parent is not None:
        dependencies.append({"name": "parent", "digest": _sha256(parent), "annotations": {"release": manifest.parent}})
    for fused in manifest.contributions:
        facts = {"contributor": fused.contributor, "examples": fused.num_examples, "weight": fused.weight}
        dependencies.append({"name": "contribution", "digest": _sha256(fused.contribution), "annotations": facts})
    run: dict[str, object] = {
        "builder": {"id": BUILDER, "version": manifest.software},
        "metadata": {"invocationId": f"{manifest.federation}/rounds/{manifest.round}"} | _finished(manifest),
    }
    if journal_head is not None:
        run["byproducts"] = [{"name": "journal", "digest": _sha256(journal_head)}]
    definition = {"buildType": BUILD_TYPE, "externalParameters": parameters, "resolvedDependencies": dependencies}
    return canonical_json({
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": f"releases/{manifest.release:05d}.json", "digest": _sha256(digest)},
            {"name": "model", "digest": {MODEL_DIGEST: manifest.model_digest}},
            *([{"name": "files", "digest": _sha256(files)}] if files is not None else []),
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": definition, "runDetails": run},
    })  # fmt: skip


def read_statement(data: bytes, *, what: str = "provenance") -> Statement:
    """Read a statement from the payload of an envelope.

    Raises:
        CodecError: It is too long, or no statement on a release.
    """
    return decode(Statement, data, what=what)


def require_about(statement: Statement, manifest: ReleaseManifest, *, digest: str, what: str = "provenance") -> None:
    """Raise `SignatureError` unless a statement is about exactly this release.

    Args:
        statement: What was signed.
        manifest: The release's manifest.
        digest: SHA-256 of the manifest's bytes, as they were read.
        what: What the error calls the statement.
    """
    said = statement.parameters
    for name, found, expected in (
        ("manifest", statement.manifest, digest),
        ("federation", said.federation, manifest.federation),
        ("release", said.release, manifest.release),
        ("round", said.round, manifest.round),
        ("method", said.method, manifest.method),
        ("model", statement.model_digest, manifest.model_digest),
        ("contributions", statement.contributions, tuple(fused.contribution for fused in manifest.contributions)),
        ("number of parents", statement.num_parents, 0 if manifest.parent is None else 1),
    ):
        if found != expected:
            raise SignatureError(
                f"{what}: is about another release: its {name} is {_short(found)}, the manifest's is "
                f"{_short(expected)}; one of the two was exchanged"
            )


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest}


def _finished(manifest: ReleaseManifest) -> dict[str, str]:
    """Return when the release was made, by its aggregator's clock; nothing where that is no time of any calendar."""
    try:
        made = datetime.fromtimestamp(int(manifest.created_at_s), UTC)
    except (OverflowError, ValueError, OSError):
        return {}
    return {"finishedOn": made.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _short(value: object) -> str:
    match value:
        case str():
            return repr(value[:40])
        case tuple():
            return f"{len(value)} of them ({', '.join(str(each)[:12] for each in value[:3])})"
    return str(value)
