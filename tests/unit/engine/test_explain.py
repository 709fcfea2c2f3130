from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import Model, floats, integers, parse_file, write_model

from coldfuse.core.dtypes import from_floats
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.explain import Coefficients, Explanation, explain, is_linear, require_memory_to_explain
from coldfuse.engine.folder_fusion import FolderFusion, fuse_prepared, prepare
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header

SHAPES: Mapping[str, tuple[int, ...]] = {"table": (30, 8), "bias": (7,)}
NAMES = ("alice", "bob", "carol")


def random(scale: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) * scale for name, shape in SHAPES.items()}


BASE = random(1.0, 0)


def write(folder: Path, change: Mapping[str, np.ndarray], dtype: str) -> Path:
    tensors: Model = {name: floats(BASE[name] + change.get(name, 0.0), dtype) for name in SHAPES}
    return write_model(folder, tensors | {"position_ids": integers(range(3))})


def explained(
    root: Path,
    changes: Sequence[Mapping[str, np.ndarray]],
    method: str,
    *,
    dtype: str = "F64",
    threads: int = 1,
    **more,
) -> Explanation:
    """Fuse models with these changes; return what the result is made of, with contributions in the order given."""
    base = write(root / "base", {}, dtype)
    models = [write(root / str(index), change, dtype) for index, change in enumerate(changes)]
    return explained_of(root, base, models, method, threads=threads, **more)


def explained_of(root: Path, base: Path, models: list[Path], method: str, *, threads: int = 1, **more) -> Explanation:
    executor = ThreadExecutor(threads, memory_bytes=1 << 30)
    request = FolderFusion(base=base, models=models, out=root / "out", recipe=read_recipe(method), **more)
    prepared = prepare(request, executor)
    made = fuse_prepared(prepared, root / "out", executor)
    found = explain(prepared, made.fused.fusion, root / "out", executor)
    order = [[item.path for item in prepared.inputs].index(model) for model in models]

    def ordered(own: Coefficients) -> Coefficients:
        return Coefficients(**vars(own) | {"contributions": tuple(own.contributions[index] for index in order)})

    return Explanation(overall=ordered(found.overall), tensors={t: ordered(c) for t, c in found.tensors.items()})


CHANGES = [random(scale, seed) for seed, scale in enumerate((0.01, 0.02, 0.03), start=1)]


@pytest.mark.parametrize(
    ("method", "wanted", "more"),
    [
        ("mean", (1 / 3,) * 3, {}),
        ("weighted-mean", (0.125, 0.25, 0.625), {"weights": [1.0, 2.0, 5.0]}),
        ("task-arithmetic(scale=0.4)", (0.4,) * 3, {}),
        ("mean then interpolate(alpha=0.3)", (0.1,) * 3, {}),
        ("mean then interpolate then extrapolate(alpha=0.2)", (0.2,) * 3, {}),
    ],
)
def test_a_linear_combination_has_its_own_coefficients(tmp_path: Path, method: str, wanted, more) -> None:
    found = explained(tmp_path, CHANGES, method, dtype="BF16", **more)
    for own in (found.overall, *found.tensors.values()):
        assert own.is_exact
        assert own.contributions == pytest.approx(wanted, rel=1e-15)
    assert list(found.tensors) == list(SHAPES)


@pytest.mark.parametrize("method", ["krum(byzantine=0)", "geometric-median"])
def test_measured_coefficients_are_exact_too(tmp_path: Path, method: str) -> None:
    found = explained(tmp_path, CHANGES, method)
    out = parse_file((tmp_path / "out" / "model.safetensors").read_bytes())
    own = found.tensors["table"]
    assert own.is_exact
    fused = sum(c * change["table"] for c, change in zip(own.contributions, CHANGES, strict=True))
    assert np.allclose(out["table"].floats, BASE["table"] + fused + own.base * BASE["table"], atol=1e-12)


def test_least_squares_find_what_a_transform_made_of_each_delta(tmp_path: Path) -> None:
    found = explained(tmp_path, CHANGES, "clip(norm=0.1) then mean")
    lengths = [np.sqrt(sum((d**2).sum() for d in change.values())) for change in CHANGES]
    assert max(lengths) > 0.2
    wanted = [min(1.0, 0.1 / length) / 3 for length in lengths]
    assert not found.overall.is_exact
    assert found.overall.contributions == pytest.approx(wanted, rel=1e-9)
    assert found.overall.explained == pytest.approx(1.0)


def test_least_squares_find_how_far_an_outer_step_goes(tmp_path: Path) -> None:
    found = explained(tmp_path, CHANGES, "mean then momentum(lr=0.3)", dtype="F32")
    assert found.overall.contributions == pytest.approx((0.1,) * 3, rel=1e-4)
    assert found.overall.explained == pytest.approx(1.0, abs=1e-6)


def test_coefficients_are_those_of_least_squares(tmp_path: Path, small_parts: int) -> None:
    found = explained(tmp_path, CHANGES, "ties(density=0.4)", dtype="BF16", threads=3)
    folders = [tmp_path / name for name in ("base", "0", "1", "2", "out")]
    base, *models, out = (parse_file((folder / "model.safetensors").read_bytes()) for folder in folders)

    def column(model: Model, names: Sequence[str]) -> np.ndarray:
        return np.concatenate([(model[n].floats.astype(float) - base[n].floats.astype(float)).ravel() for n in names])

    for own, names in [(found.overall, list(SHAPES)), *((own, [name]) for name, own in found.tensors.items())]:
        wanted, fused = np.stack([column(model, names) for model in models], axis=1), column(out, names)
        solution, *_ = np.linalg.lstsq(wanted, fused, rcond=None)
        assert own.contributions == pytest.approx(solution, rel=1e-6)
        left = ((fused - wanted @ solution) ** 2).sum() / (fused**2).sum()
        assert own.explained == pytest.approx(1 - left, rel=1e-6)
        assert 0.1 < 1 - left < 0.99  # there was something to find


def test_neither_threads_nor_parts_change_a_bit(tmp_path: Path, small_parts: int) -> None:
    one, three = (explained(tmp_path / str(n), CHANGES, "median", threads=n) for n in (1, 3))
    assert one == three


def test_a_model_that_is_given_twice_takes_equal_shares(tmp_path: Path) -> None:
    found = explained(tmp_path, [CHANGES[0], CHANGES[0], CHANGES[1]], "mean then interpolate(alpha=0.6)")
    assert found.overall.contributions == pytest.approx((0.2,) * 3, rel=1e-6)


def test_a_small_delta_is_found_beside_large_ones(tmp_path: Path) -> None:
    scale, base = 1e-12, write(tmp_path / "base", {}, "F64")
    folder = open_checkpoint(base)
    models = []
    for index, factor in enumerate((1.0, scale)):
        changes = {name: (delta * factor).astype(np.float32) for name, delta in CHANGES[index].items()}
        header = delta_header(folder.schema, changes, encoding="F32", base_digest=folder.digest())
        models.append(tmp_path / str(index))
        models[-1].write_bytes(
            header + b"".join(from_floats(changes[n].ravel(), "F32").tobytes() for n in sorted(changes))
        )
    found = explained_of(tmp_path, base, models, "mean then interpolate(alpha=1)")
    assert found.overall.contributions[0] == pytest.approx(0.5, rel=1e-6)
    assert found.overall.contributions[1] == pytest.approx(0.5, rel=1e-9 / scale)


def test_where_a_contribution_changes_nothing_it_has_no_coefficient(tmp_path: Path) -> None:
    found = explained(tmp_path, [CHANGES[0], {"bias": CHANGES[1]["bias"]}], "median")
    assert found.tensors["table"].contributions[1] is None
    assert None not in found.tensors["bias"].contributions
    assert None not in found.overall.contributions


def test_a_model_that_did_not_move_is_explained_by_nothing(tmp_path: Path) -> None:
    found = explained(tmp_path, [{}, {}], "median")
    assert found.overall.contributions == (None, None)
    assert found.overall.explained is None


def test_where_tensors_differ_their_own_are_exact_and_those_of_the_model_by_least_squares(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {}, "F32")
    folder = open_checkpoint(base)
    part = {"bias": CHANGES[1]["bias"].astype(np.float32)}
    delta = tmp_path / "delta"
    header = delta_header(folder.schema, part, encoding="F32", base_digest=folder.digest())
    delta.write_bytes(header + from_floats(part["bias"], "F32").tobytes())
    found = explained_of(
        tmp_path, base, [write(tmp_path / "model", CHANGES[0], "F32"), delta], "mean(absent=skip)"
    )  # fmt: skip
    assert found.tensors["table"].contributions == (1.0, None)
    assert found.tensors["bias"].contributions == (0.5, 0.5)
    assert all(own.is_exact for own in found.tensors.values())
    assert not found.overall.is_exact
    assert 0.9 < (found.overall.contributions[0] or 0) < 1.0
    assert 0.9 < (found.overall.explained or 0) < 1.0


def test_only_sums_of_the_deltas_as_given_are_linear(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {}, "F32")
    linear = []
    for method in ("mean", "karcher", "mean then interpolate", "median", "clip then mean", "mean then nesterov"):
        request = FolderFusion(base=base, models=[base], out=tmp_path / "out", recipe=read_recipe(method))
        linear += [method] if is_linear(prepare(request, ThreadExecutor(1)).fusion) else []
    assert linear == ["mean", "karcher", "mean then interpolate"]


def test_too_little_memory_is_known_before(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {}, "F32")
    request = FolderFusion(base=base, models=[base], out=tmp_path / "out", recipe=read_recipe("median"))
    prepared = prepare(request, ThreadExecutor(1))
    with pytest.raises(UserInputError, match="--memory"):
        require_memory_to_explain(prepared, ThreadExecutor(1, memory_bytes=1 << 20))
