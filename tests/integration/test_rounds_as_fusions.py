"""A round and `coldfuse fuse` of the same deltas, base and recipe make the same bytes, over rounds and every method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from tiny_rounds import (
    Model,
    floats,
    integers,
    lead,
    make_contribution,
    make_federation,
    read_release,
    receive,
)

from coldfuse.cli.recipe import require_federated
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError
from coldfuse.fusion.method import Outer, Transform
from coldfuse.fusion.methods import METHODS
from coldfuse.registry.federation import Federation

PARAMETERS = {"bulyan": "bulyan(byzantine=0)", "krum": "krum(byzantine=1)", "multi-krum": "multi-krum(byzantine=1)"}
REFUSED = {"analogy", "slerp", "nuslerp", "nuslerp-rows", "fisher", "regmean", "precision", "fwsvd"}
"""Methods that ask for an order or for statistics, which a federation's contributions do not have."""
COMPOSED = ("clip then dare then ties(density=0.5) then nesterov", "della then mean then fedadam", "dare then opcm")
EMBEDDING, HEAD = "embeddings.word_embeddings.weight", "lm_head.weight"


def line_of(name: str) -> str:
    kind, step = METHODS[name], PARAMETERS.get(name, name)
    return (
        f"{step} then mean" if issubclass(kind, Transform) else f"mean then {step}" if issubclass(kind, Outer) else step
    )


def count_of(line: str) -> int:
    return 2 if line == "nearswap" else 5


def is_taken(line: str) -> bool:
    try:
        require_federated(read_recipe(line), quorum=count_of(line))
    except UserInputError:
        return False
    return True


LINES = [line_of(name) for name in METHODS if name not in REFUSED]


def make_base(dtype: str) -> Model:
    """Make a model that stores its tied embedding twice, with an integer buffer, a scalar and an empty tensor."""
    rng = np.random.default_rng(5)
    table = floats(rng.normal(size=(24, 8)) * 0.02, dtype)
    return {
        EMBEDDING: table,
        "position_ids": integers(range(10)),
        "layer.weight": floats(rng.normal(size=(8, 8)) * 0.02, dtype),
        "layer.bias": floats(rng.normal(size=8) * 0.02),
        "scale": floats(rng.normal(), dtype),
        "empty": floats(np.zeros((0, 4)), dtype),
        HEAD: table,
    }


def make_changes(model: Model, seed: int, *, has_head: bool) -> dict[str, np.ndarray]:
    """Make a delta; one that has the tied head has it like the embedding."""
    rng = np.random.default_rng(seed)
    names = [EMBEDDING, "layer.weight", *(["layer.bias"] if seed % 2 else []), "scale"]
    changes = {name: (rng.normal(size=model[name].spec.shape) * 1e-3).astype(np.float32) for name in names}
    return changes | ({HEAD: changes[EMBEDDING]} if has_head else {})


def send_round(federation: Federation, number: int, count: int, folder: Path) -> dict[Path, float]:
    """Contribute to a round; return the deltas as files, in another order than they came in, with their weights."""
    lead(federation, number)
    files: dict[Path, float] = {}
    model = read_release(federation)
    for index in range(count):
        changes = make_changes(model, 10 * number + index, has_head=index % 2 == 0)
        manifest = make_contribution(federation, f"node-{index}", changes, num_examples=100 + index)
        receive(federation, manifest, at_s=float(index))
        path = folder / f"{number}-{index}.safetensors"
        path.write_bytes(federation.objects.open(manifest.delta).read(0, manifest.delta.size_bytes))
        files[path] = float(manifest.num_examples)
    lead(federation, number)
    return dict(reversed(files.items()))


def assert_same(federation: Federation, out: Path, digest: str) -> None:
    release = federation.latest()
    assert digest == release.model_digest
    for path, blob in release.files.items():
        assert (out / path).read_bytes() == federation.objects.open(blob).read(0, blob.size_bytes), path
    state: Mapping[str, object] = release.outer.files if release.outer else {}
    kept = {file.relative_to(out / "outer").as_posix() for file in (out / "outer").rglob("*.safetensors")}
    assert kept == set(state)
    for name in kept:
        blob = release.outer.files[name]  # type: ignore[union-attr]
        assert (out / "outer" / name).read_bytes() == federation.objects.open(blob).read(0, blob.size_bytes), name


def play(tmp_path: Path, line: str, *, dtype: str, rounds: int) -> Federation:
    """Run rounds of a federation and fuse the same deltas beside it, each on its own result of the round before."""
    count = count_of(line)
    federation = make_federation(tmp_path, make_base(dtype), num_files=3, method=line, quorum=count)
    base = tmp_path / "base"
    for number in range(1, rounds + 1):
        deltas = send_round(federation, number, count, tmp_path)
        weights = list(deltas.values()) if line == "weighted-mean" else None
        out = tmp_path / f"out-{number}"
        digest = fuse(base, list(deltas), out, line, weights=weights, keeps_residual=True)
        assert federation.latest().release == number, federation.journal(number).state()
        assert_same(federation, out, digest)
        base = out
    return federation


def test_only_methods_that_need_an_order_or_statistics_are_refused_by_a_federation() -> None:
    assert {name for name in METHODS if not is_taken(line_of(name))} == REFUSED


@pytest.mark.parametrize("line", [*LINES, *COMPOSED])
def test_a_round_makes_what_fusing_its_deltas_makes(tmp_path: Path, small_parts: int, line: str) -> None:
    federation = play(tmp_path, line, dtype="F32", rounds=1)
    assert 0 < federation.latest().moved <= 1  # type: ignore[operator]
    assert federation.latest().model_digest != federation.release(0).model_digest
    fused = read_release(federation)
    assert fused[HEAD].data == fused[EMBEDDING].data
    assert fused["position_ids"].data == make_base("F32")["position_ids"].data


@pytest.mark.parametrize(
    ("line", "dtype"),
    [
        ("mean", "F32"),
        ("mean", "BF16"),
        ("nesterov", "F32"),
        ("ties then fedadam", "BF16"),
        ("dare then opcm then momentum", "F16"),
    ],
)
def test_so_do_three_rounds_with_what_is_kept_between_them(
    tmp_path: Path, small_parts: int, line: str, dtype: str
) -> None:
    federation = play(tmp_path, line, dtype=dtype, rounds=3)
    kept = federation.latest().outer
    assert (kept is not None) == (dtype != "F32" or line != "mean")
    slots = {name.split("/")[0] for name in kept.files} if kept else set()
    assert ("residual" in slots) == (dtype != "F32")


def test_a_delta_with_two_versions_of_a_tied_weight_is_rejected(tmp_path: Path) -> None:
    base = make_base("F32")
    federation = make_federation(tmp_path, base, quorum=1)
    lead(federation)
    changes = make_changes(base, 1, has_head=True)
    receive(federation, make_contribution(federation, "ada", changes | {HEAD: changes[HEAD] * 2}))
    lead(federation)
    (rejection,) = federation.journal(1).state().rejected.values()
    assert f"tensors {EMBEDDING} and {HEAD} differ" in rejection.reason


def test_an_untied_head_is_fused_apart(tmp_path: Path) -> None:
    base = make_base("F32")
    base[HEAD] = floats(base[HEAD].floats + 1)
    federation = make_federation(tmp_path, base, quorum=1)
    lead(federation)
    changes = make_changes(base, 1, has_head=True)
    receive(federation, make_contribution(federation, "ada", changes | {HEAD: changes[HEAD] * 2}))
    lead(federation)
    fused = read_release(federation)
    moved = fused[HEAD].floats - base[HEAD].floats
    assert np.allclose(moved, 2 * (fused[EMBEDDING].floats - base[EMBEDDING].floats), atol=1e-6)
