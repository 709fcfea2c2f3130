"""Rounds whose method looks at statistics: they make what fusing their files makes, and no statistics stop them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coded_rounds import KINDS, body_of, bring, coded_file, info_of, make_statistics, stored, with_statistics
from folder_fusions import fuse
from tiny_rounds import contribute, floats, lead, make_changes, make_contribution, make_federation, make_model, receive

from coldfuse.core import blob
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import ChangeableSettings
from coldfuse.core.serialization import blob_digest, encode
from coldfuse.core.statistics import Coding, ContributedStatistics, StatisticsRule
from coldfuse.doctor.examine import Examination
from coldfuse.errors import ContributionRejectedError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.contributions import check_manifest
from coldfuse.registry.federation import Federation
from coldfuse.registry.recovery import complete
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.tensors.blobs import put_part

MODEL = make_model() | {"embeddings.weight": floats(np.random.default_rng(0).normal(size=(600, 8)))}
"""Its embeddings take two blocks of codes."""
NAMES = ("ada", "ben", "cy")


def open_federation(root: Path, method: str, *, presence: str = "require", **rules: object) -> Federation:
    rule = StatisticsRule.model_validate({"kind": KINDS[method.partition("(")[0]], "presence": presence})
    federation = make_federation(root, MODEL, method=method, statistics=rule, **({"quorum": 3} | rules))
    lead(federation)
    return federation


def files_of(federation: Federation, manifest: ContributionManifest, root: Path) -> list[Path]:
    """Write a contribution's delta and statistics to files, as they travelled."""
    paths = [root / f"{manifest.contributor}.{what}" for what in ("delta", "statistics")]
    for path, file in zip(paths, manifest.files, strict=False):
        path.write_bytes(federation.objects.open(file).read(0, file.size_bytes))
    return paths


@pytest.mark.parametrize("coding", ["F16", "log8"])
@pytest.mark.parametrize("method", [*KINDS, "regmean(off_diagonal=0.9)"])
def test_a_round_makes_what_fusing_its_deltas_with_their_statistics_makes(
    tmp_path: Path, method: str, coding: Coding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob, "MIN_PART_BYTES", 3000)  # blocks of codes are cut
    federation = open_federation(tmp_path, method)
    kind = federation.settings.statistics.wanted
    sent = [bring(federation, MODEL, name, kind, seed=seed, coding=coding) for seed, name in enumerate(NAMES)]
    lead(federation)
    release = federation.latest()
    assert {c.contributor: c.statistics for c in release.contributions} == dict.fromkeys(NAMES, kind)
    files = [files_of(federation, manifest, tmp_path) for manifest in sent]
    deltas, statistics = [path for path, _ in files], [path for _, path in files]
    assert fuse(tmp_path / "base", deltas, tmp_path / "out", method, statistics=statistics) == release.model_digest
    mean = fuse(tmp_path / "base", deltas, tmp_path / "mean")
    assert mean != release.model_digest


@pytest.mark.parametrize("method", KINDS)
def test_who_brings_none_is_refused_with_a_reason_or_counts_by_the_rule(tmp_path: Path, method: str) -> None:
    kind = KINDS[method]
    refused, _ = (
        open_federation(tmp_path / presence, method, presence=presence) for presence in ("require", "optional")
    )
    bring(refused, MODEL, "ada", None, seed=0)
    lead(refused)
    (rejection,) = refused.journal(1).state().rejected.values()
    assert f"asks for {kind} statistics beside every delta" in rejection.reason
    optional = _
    for seed, name in enumerate(NAMES):
        bring(optional, MODEL, name, None if name == "ben" else kind, seed=seed)
    lead(optional)
    found = {c.contributor: c.statistics for c in optional.latest().contributions}
    assert found == {"ada": kind, "ben": None, "cy": kind}
    assert (
        "it brought no statistics"
        in optional.journal(1)
        .state()
        .admitted[next(c.contribution for c in optional.latest().contributions if c.contributor == "ben")]
        .reason
    )


def test_a_gateway_refuses_at_once_what_brings_none(tmp_path: Path) -> None:
    federation = open_federation(tmp_path, "regmean")
    manifest = make_contribution(federation, "ada", make_changes(MODEL, 0))
    with StoreGateway(federation) as gateway:
        assert gateway.status().statistics == StatisticsRule(kind="gram")
        with pytest.raises(ContributionRejectedError, match="asks for gram statistics"):
            gateway.commit(manifest)
        good = with_statistics(federation, manifest, "gram", make_statistics(MODEL, "gram", 0))
        assert good.statistics is not None
        lost = federation.store
        lost.delete(f"objects/{good.statistics.file.parts[-1].digest}")
        with pytest.raises(ContributionRejectedError, match=r"not all of the \d+ parts have arrived"):
            gateway.commit(good)


def test_what_counts_of_a_contribution_is_both_its_files(tmp_path: Path) -> None:
    federation = open_federation(tmp_path, "fisher")
    manifest = make_contribution(federation, "ada", make_changes(MODEL, 0))
    full = with_statistics(federation, manifest, "fisher", make_statistics(MODEL, "fisher", 0))
    settings = federation.settings.model_copy(update={"max_contribution_bytes": full.delta.size_bytes + 10})
    with pytest.raises(ContributionRejectedError, match="the delta and what comes with it have"):
        check_manifest(full, settings)
    check_manifest(manifest, settings)
    assert b"statistics" not in encode(manifest)  # as older versions wrote it, and named it


def test_the_doctor_looks_at_statistics_and_a_damaged_part_is_asked_for_again(tmp_path: Path) -> None:
    federation = open_federation(tmp_path, "fisher")
    sent = [bring(federation, MODEL, name, "fisher", seed=seed) for seed, name in enumerate(NAMES)]
    assert sent[1].statistics is not None
    part = sent[1].statistics.file.parts[-1]
    whole = federation.store.get(f"objects/{part.digest}")
    path = tmp_path / "store" / "objects" / part.digest
    (path,) = [found for found in (tmp_path / "store").rglob(f"*{part.digest[2:]}*") if found.is_file()]
    path.chmod(0o644)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    (finding,) = Examination(federation).run().findings
    assert finding.key.endswith(part.digest)
    assert any("ben, its statistics" in who for who in finding.needed_by)
    lead(federation)
    state = federation.journal(1).state()
    assert [damage.parts for damage in state.damaged.values()] == [(part,)]
    federation.objects.put(part.digest, whole)
    lead(federation)
    assert {c.contributor for c in federation.latest().contributions} == set(NAMES)


def test_statistics_of_a_method_that_was_changed_stop_no_round(tmp_path: Path) -> None:
    """What an abandoned round has admitted is carried into one whose method looks at something else."""
    federation = open_federation(tmp_path, "fisher", quorum=2)
    bring(federation, MODEL, "ada", "fisher", seed=0)
    lead(federation)
    assert lead(federation, now_s=1000.0)[-1].event == "abandoned"
    settings, etag = read_settings(federation.store)
    wanted = ChangeableSettings(method="regmean", statistics=StatisticsRule(kind="gram"))
    write_change(federation.store, settings, etag, wanted, by="ann", after_release=0)
    lead(federation, 2)
    bring(federation, MODEL, "ben", "gram", seed=1)
    assert lead(federation, 2)[-1].event == "published"
    assert {c.contributor: c.statistics for c in federation.latest().contributions} == {"ada": None, "ben": "gram"}


def test_an_admission_that_is_lost_comes_back_with_its_statistics(tmp_path: Path) -> None:
    """Else what is closed on would be fused to something else, once an entry of the journal is damaged."""
    federation = open_federation(tmp_path, "fisher", quorum=2)
    for seed, name in enumerate(NAMES[:2]):
        bring(federation, MODEL, name, "fisher", seed=seed)
    lead(federation)
    state = federation.journal(1).state()
    found = complete(federation.store, replace(state, admitted={})).admitted
    assert {d: (a.statistics.kind, a.statistics.digest) for d, a in found.items() if a.statistics} == {
        d: (a.statistics.kind, a.statistics.digest) for d, a in state.admitted.items() if a.statistics
    }
    assert len(found) == 2


def with_head(first: int, step: int) -> Callable[[bytes], bytes]:
    """Return what puts other numbers at the head of the first block."""
    return lambda data: data[: (at := body_of(data))] + struct.pack("<ii", first, step) + data[at + 8 :]


def with_codes(codes: bytes, *, behind: int = 8) -> Callable[[bytes], bytes]:
    """Return what puts other codes behind the head of the first block, or elsewhere."""
    return lambda data: data[: (at := body_of(data) + behind)] + codes + data[at + len(codes) :]


ABOVE = 8 + 2 * 8 + 8
"""Byte at which the correlations of a Gram matrix of 8 inputs begin: behind its diagonal."""


NAN, INFINITE, MINUS_ONE = (np.array([value], "<f2").tobytes() for value in (np.nan, np.inf, -1.0))

HOSTILE = {
    "NaN": ("fisher", "F16", with_codes(NAN), "NaN, infinite"),
    "infinite": ("variance", "F16", with_codes(INFINITE), "NaN, infinite"),
    "negative": ("fisher", "F16", with_codes(MINUS_ONE), "nothing of fisher is negative"),
    "huge": ("fisher", "log8", with_head(64 * 900, 1), "larger than any float32"),
    "no exponent": ("fisher", "log8", with_head(2**31 - 1, 2**31 - 1), "NaN, infinite"),
    "a step back": ("variance", "log8", with_head(0, -7), "NaN, infinite"),
    "huge halves": ("gram", "F16", with_head(4000, 0), "larger than any float32"),
    "indefinite": ("gram", "F16", with_codes(np.full(28, 6e4, "<f2").tobytes(), behind=ABOVE), "no Gram matrix"),
    "indefinite logarithms": ("gram", "log8", with_codes(b"\xff" * 28, behind=ABOVE), "no Gram matrix"),
    "infinite correlations": ("gram", "F16", with_codes(INFINITE, behind=ABOVE), "NaN, infinite"),
    "a NaN Gram": ("gram", "F16", with_codes(NAN), "NaN, infinite"),
}


@pytest.mark.parametrize("kind", ["fisher", "gram", "variance"])
def test_hostile_numbers_are_rejected_in_a_line_each_and_stop_no_round(tmp_path: Path, kind: str) -> None:
    method = next(name for name, of in KINDS.items() if of == kind)
    federation = open_federation(tmp_path, method)
    for seed, name in enumerate(NAMES):
        bring(federation, MODEL, name, KINDS[method], seed=seed)
    said = {}
    for index, (what, (of, coding, change, reason)) in enumerate(HOSTILE.items()):
        if of == kind:
            manifest = make_contribution(federation, f"mal{index}", make_changes(MODEL, 50 + index))
            arrays = make_statistics(MODEL, KINDS[method], index)
            bad = with_statistics(federation, manifest, KINDS[method], arrays, change=change, coding=coding)  # type: ignore[arg-type]
            receive(federation, bad)
            said[f"mal{index}"] = reason, what
    lead(federation)
    rejected = {r.contributor: r.reason for r in federation.journal(1).state().rejected.values()}
    assert rejected.keys() == said.keys()
    for name, (reason, what) in said.items():
        assert reason in rejected[name], what
        assert "\n" not in rejected[name]
    assert {c.contributor for c in federation.latest().contributions} == set(NAMES)


def _lies(federation: Federation) -> dict[str, tuple[ContributionManifest, str]]:
    """Return contributions with statistics that are none of theirs, and what is said of each."""
    arrays = make_statistics(MODEL, "fisher", 9)
    manifests = iter(
        make_contribution(federation, f"mal{index}", make_changes(MODEL, 50 + index)) for index in range(20)
    )

    def made(reason: str, **options: object) -> tuple[ContributionManifest, str]:
        given = {"kind": "fisher", "arrays": arrays} | options
        return with_statistics(federation, next(manifests), **given), reason  # type: ignore[arg-type]

    def saying(reason: str, **fields: object) -> tuple[ContributionManifest, str]:
        manifest, _ = made(reason)
        assert manifest.statistics is not None
        return manifest.model_copy(update={"statistics": manifest.statistics.model_copy(update=fields)}), reason

    plain = next(manifests)
    cut = {name: array for name, array in arrays.items() if name != "layer.bias"} | {"layer.bias": np.ones(3, "f4")}
    other = {"unknown.weight": np.ones((3, 3), "f4")}
    return {
        "of another delta": made("belongs to delta", says={"delta": "a" * 64}),
        "of no delta": made("to which delta they belong", says={"delta": None}),
        "of another kind": made("brings gram statistics", kind="gram", arrays=make_statistics(MODEL, "gram", 1)),
        "of another shape": made("'layer.bias': shape", arrays=cut),
        "of no tensor": made("of no tensor", arrays={}),
        "of an unknown tensor": made("the base has no such tensor", arrays=other),
        "more examples than trained on": made("trained on 100", says={"num_examples": 10**12, "count": 10**12}),
        "another count in the file": saying("the file says", estimator="empirical"),
        "a mean over more than there is": made("which nobody reads", says={"count": 10**9}),
        "a foreign list of parts": saying("digest", digest="b" * 64),
        "no statistics at all": (_naming(plain, plain.delta), "not a file of coldfuse statistics"),
        "cut elsewhere": (_cut_elsewhere(federation, next(manifests), arrays), "not cut into parts"),
    }  # fmt: skip


def _naming(manifest: ContributionManifest, file: Blob) -> ContributionManifest:
    """Return a contribution that calls a file its statistics."""
    given = ContributedStatistics(
        kind="fisher", estimator="exact", coding="log8", num_examples=20, count=20, file=file, digest=blob_digest(file)
    )
    return manifest.model_copy(update={"statistics": given})


def _cut_elsewhere(
    federation: Federation, manifest: ContributionManifest, arrays: dict[str, np.ndarray]
) -> ContributionManifest:
    data = coded_file(arrays, info_of("fisher", manifest.delta))
    at = body_of(data)
    assert len(stored(federation, data).parts) == 2
    pieces = (data[:at], data[at : at + 5], data[at + 5 :])
    return _naming(manifest, Blob(parts=tuple(put_part(piece, federation.objects.put) for piece in pieces)))


def test_statistics_that_are_not_what_they_say_are_rejected_in_a_line_each(tmp_path: Path) -> None:
    federation = open_federation(tmp_path, "fisher")
    for seed, name in enumerate(NAMES):
        bring(federation, MODEL, name, "fisher", seed=seed)
    lies = _lies(federation)
    for manifest, _ in lies.values():
        receive(federation, manifest)
    lead(federation)
    rejected = {r.contributor: r.reason for r in federation.journal(1).state().rejected.values()}
    for what, (manifest, reason) in lies.items():
        assert reason in rejected.get(manifest.contributor, "admitted"), what
        assert "\n" not in rejected[manifest.contributor]
    assert {c.contributor for c in federation.latest().contributions} == set(NAMES)


def test_a_federation_that_asks_for_none_takes_them_as_if_they_were_not_there(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, quorum=2)
    lead(federation)
    bring(federation, MODEL, "ada", "fisher", seed=0)
    contribute(federation, "ben", make_changes(MODEL, 1))
    lead(federation)
    assert [c.statistics for c in federation.latest().contributions] == [None, None]
