"""Contributions that lie in what only their bytes show: each is rejected with a reason, and the round goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from encoded_deltas import dense, factors, make_mask, manifest_of, put_file, schema_of, send, sparse, write
from tiny_rounds import lead, make_federation, make_model, receive

from coldfuse import fuse
from coldfuse.core.blob import MIN_PART_BYTES, Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import blob_digest
from coldfuse.errors import ColdfuseError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.changes import LowRankChange, SparseChange
from coldfuse.tensors.header import format_header
from coldfuse.tensors.index_codes import IndexCode
from coldfuse.tensors.masks import write_mask
from coldfuse.tensors.tensor_file import read_file_header

MODEL = make_model()
NAME = "embeddings.weight"


def edited(path, stored: str, edit: Callable[[np.ndarray], None]) -> None:
    """Change the bytes of a tensor in a file."""
    entry = next(entry for entry in read_file_header(path).tensors if entry.name == stored)
    data = np.fromfile(path, np.uint8)
    edit(data[entry.start : entry.start + entry.spec.size_bytes])
    data.tofile(path)


def code_of(indices: list[int]) -> np.ndarray:
    return IndexCode(400, len(indices)).encode(np.array(indices, np.int64))


def floats_in(stored: str, values: list[float]):
    def edit(raw: np.ndarray) -> None:
        raw.view(np.float32)[: len(values)] = values

    return stored, edit


def bytes_in(stored: str, data: np.ndarray):
    def edit(raw: np.ndarray) -> None:
        raw[:] = data

    return stored, edit


LORA = {NAME: factors(50, 8, 2)}
SOME = {NAME: SparseChange(np.array([3, 7, 100, 399]), np.ones(4, np.float32))}
LIES = {
    "a factor with NaN": (LORA, floats_in(f"{NAME}|up", [np.nan]), "8 values that are NaN or infinite"),
    "a factor with infinity": (LORA, floats_in(f"{NAME}|down", [np.inf]), "values that are NaN or infinite"),
    "factors that overflow": (LORA, floats_in(f"{NAME}|up", [3e38] * 100), r"a change of .*e\+38, the base is F32"),
    "a value that is NaN": (SOME, floats_in(f"{NAME}|values", [np.nan]), "1 values that are NaN or infinite"),
    "indices twice": (SOME, bytes_in(f"{NAME}|indices", code_of([3, 3, 100, 399])), "indices"),
    "indices unsorted": (SOME, bytes_in(f"{NAME}|indices", code_of([7, 3, 100, 399])), "not strictly ascending"),
    "an index outside": (SOME, bytes_in(f"{NAME}|indices", code_of([3, 7, 100, 447])), "or outside the tensor"),
    "indices without one": (SOME, bytes_in(f"{NAME}|indices", np.zeros(5, np.uint8)), "0 of them are stored"),
    "indices that are all": (SOME, bytes_in(f"{NAME}|indices", np.full(5, 255, np.uint8)), "indices"),
}


def verdicts_of(federation: Federation, manifest: ContributionManifest, tmp_path) -> str:
    """Bring a contribution beside two honest ones; return why it was rejected."""
    receive(federation, manifest)
    for seed in (1, 2):
        send(federation, f"honest{seed}", {NAME: factors(50, 8, 2, seed=seed)}, tmp_path)
    lead(federation)
    state = federation.journal(1).state()
    assert {a.contributor for a in state.admitted.values()} >= {"honest1", "honest2"}
    assert federation.latest().release == 1
    (rejected,) = [r for r in state.rejected.values() if r.contributor == manifest.contributor]
    return rejected.reason


@pytest.fixture
def federation(tmp_path):
    made = make_federation(tmp_path, MODEL)
    lead(made)
    return made


@pytest.mark.parametrize("name", LIES)
def test_bytes_that_lie_are_rejected(federation, tmp_path, name) -> None:
    changes, lie, says = LIES[name]
    write(tmp_path / "liar.safetensors", schema_of(federation), changes, base_digest=federation.latest().model_digest)
    edited(tmp_path / "liar.safetensors", *lie)
    manifest = manifest_of(federation, "liar", put_file(federation, tmp_path / "liar.safetensors"))
    reason = verdicts_of(federation, manifest, tmp_path)
    assert NAME in reason
    assert re.search(says, reason)


@pytest.mark.parametrize("name", sorted(LIES.keys() - {"factors that overflow"}))
@pytest.mark.parametrize("method", ["mean", "median"])
def test_a_fusion_of_files_refuses_bytes_that_lie(federation, tmp_path, name, method) -> None:
    """Nobody has screened them; what only overflows float32 is the fused model's to refuse."""
    changes, lie, _ = LIES[name]
    path = tmp_path / "liar.safetensors"
    write(path, schema_of(federation), changes, base_digest=federation.latest().model_digest)
    edited(path, *lie)
    with pytest.raises(ColdfuseError, match=r"liar\.safetensors"):
        fuse(tmp_path / "base", [path], method=method, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_scale_that_overflows_is_rejected(federation, tmp_path) -> None:
    change = LowRankChange(np.full((50, 1), 1e30, np.float32), np.full((1, 8), 1e30, np.float32), 1e300)
    send(federation, "liar", {NAME: change}, tmp_path)
    lead(federation)
    (rejected,) = federation.journal(1).state().rejected.values()
    assert "values that are NaN or infinite" in rejected.reason


def masked(federation, tmp_path):
    change = sparse(40, 400)
    mask = make_mask(tmp_path, schema_of(federation), {NAME: change.indices})
    send(federation, "other", {NAME: dense(np.full(400, 0.01, np.float32))}, tmp_path)
    path = write(
        tmp_path / "liar.safetensors", schema_of(federation), {NAME: change},
        base_digest=federation.latest().model_digest, mask=mask,
    )  # fmt: skip
    return put_file(federation, path), mask


def test_values_without_their_mask_or_with_another_are_rejected(federation, tmp_path) -> None:
    delta, _ = masked(federation, tmp_path)
    write_mask(tmp_path / "second", schema_of(federation), {NAME: sparse(40, 400, seed=9).indices})
    second = put_file(federation, tmp_path / "second")
    for index, (mask, says) in enumerate(((None, "its manifest brings none"), (second, "its manifest brings "))):
        receive(federation, manifest_of(federation, f"liar{index}", delta, mask=mask))
        lead(federation)
        reasons = {r.contributor: r.reason for r in federation.journal(1).state().rejected.values()}
        assert says in reasons[f"liar{index}"]


def test_a_mask_whose_bytes_lie_is_rejected(federation, tmp_path) -> None:
    _, mask = masked(federation, tmp_path)
    path, delta = mask.file.file.path, tmp_path / "liar.safetensors"
    edited(path, f"{NAME}|indices", lambda raw: raw.fill(0))
    blob = put_file(federation, path)
    delta.write_bytes(delta.read_bytes().replace(mask.digest.encode(), blob_digest(blob).encode()))
    manifest = manifest_of(federation, "liar", put_file(federation, delta), mask=blob)
    assert re.search(f"{NAME}.*0 of them are stored where there are 40", verdicts_of(federation, manifest, tmp_path))


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"format": "pt"}, "expected a coldfuse-mask of version 1"),
        ({"version": "2"}, "expected a coldfuse-mask of version 1"),
        ({"counts": "[]"}, "counts must say"),
        ({"counts": '{"a":0}'}, "counts must say"),
        ({"counts": '{"a":1,"a":1}'}, "names a tensor twice"),
    ],
)
def test_what_is_no_mask_is_rejected(federation, tmp_path, metadata, says) -> None:
    whole = {"format": "coldfuse-mask", "version": "1", "counts": "{}"} | metadata
    (tmp_path / "mask").write_bytes(format_header([], whole))
    blob = put_file(federation, tmp_path / "mask")
    said = {
        "format": "coldfuse-delta", "version": "2", "base": federation.latest().model_digest,
        "encodings": json.dumps({}), "mask": blob_digest(blob),
    }  # fmt: skip
    (tmp_path / "delta").write_bytes(format_header([], said))
    manifest = manifest_of(federation, "liar", put_file(federation, tmp_path / "delta"), mask=blob)
    assert says in verdicts_of(federation, manifest, tmp_path)


@pytest.mark.parametrize(
    ("num_junk", "counts", "says"),
    [
        (500, {}, "'junk0' is not what its counts ask for"),
        (0, {"junk": 1}, "'junk': the base has none with so many elements"),
        (0, {NAME: 10**30}, f"{NAME}.*has none with so many elements"),
        (0, {NAME: 4}, "is not what its counts ask for"),
    ],
)
def test_a_mask_that_is_none_of_its_base_is_rejected_unread(federation, tmp_path, num_junk, counts, says) -> None:
    """One part that is sent once could be named a thousand times, and would be read as often."""
    junk = [(f"junk{index}", TensorSpec(dtype="U8", shape=(MIN_PART_BYTES,))) for index in range(num_junk)]
    whole = {"format": "coldfuse-mask", "version": "1", "counts": json.dumps(counts)}
    header = put_part(format_header(sorted(junk), whole), federation.objects.put)
    absent = Part(digest="a" * 64, size_bytes=MIN_PART_BYTES)  # to read it would be damage, and no verdict
    mask = Blob(parts=(header, *[absent] * num_junk))
    said = {
        "format": "coldfuse-delta", "version": "2", "base": federation.latest().model_digest,
        "encodings": json.dumps({}), "mask": blob_digest(mask),
    }  # fmt: skip
    (tmp_path / "delta").write_bytes(format_header([], said))
    manifest = manifest_of(federation, "liar", put_file(federation, tmp_path / "delta"), mask=mask)
    assert re.search(says, verdicts_of(federation, manifest, tmp_path))
