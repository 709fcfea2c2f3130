"""Each of mergekit's methods that is taken, against its formula in plain numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layered_models import Arrays, make_arrays, place_of, read_arrays, write_arrays
from typer.testing import CliRunner

from coldfuse.cli.main import app

NAMES = ("base", "alice", "bob", "carol")
MODELS = {name: make_arrays(seed) for seed, name in enumerate(NAMES)}
BASE = MODELS["base"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        write_arrays(tmp_path / name, MODELS[name])
    return tmp_path


def merge(folder: Path, text: str) -> Arrays:
    (folder / "merge.yaml").write_text(text)
    result = CliRunner().invoke(app, ["fuse", "--recipe", "merge.yaml", "--out", "out"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return read_arrays(folder / "out")


def top(delta: np.ndarray, density: float, gamma: float = 0.0) -> np.ndarray:
    """Keep the largest entries, but for the very largest."""
    count = delta.size
    kept = int(density * count)
    first = max(0, count - kept - int(gamma * count))
    order = np.argsort(np.abs(delta).ravel())[first : first + kept]
    out = np.zeros(count)
    out[order] = delta.ravel()[order]
    return out.reshape(delta.shape)


def elect(deltas: list[np.ndarray], weights: list[float], *, divides: bool) -> np.ndarray:
    weighted = np.array([w * d for w, d in zip(weights, deltas, strict=True)])
    agree = np.sign(weighted) == np.where(weighted.sum(axis=0) >= 0, 1, -1)
    total = (weighted * agree).sum(axis=0)
    divisor = (np.array(weights).reshape(-1, *[1] * deltas[0].ndim) * agree).sum(axis=0)
    return total / np.where(divisor == 0, 1, divisor) if divides else total


def arc(t: float, a: np.ndarray, b: np.ndarray, parallel: float) -> np.ndarray:
    cosine = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    if abs(cosine) > parallel:
        return (1 - t) * a + t * b
    omega = np.arccos(cosine)
    return (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)


def deltas_of(tensor: str, *names: str) -> list[np.ndarray]:
    return [MODELS[name][tensor] - BASE[tensor] for name in names]


def linear(tensor: str) -> np.ndarray:
    place = place_of(tensor)
    ours = 0.9 if "mlp" in tensor else place
    return (ours * MODELS["alice"][tensor] + 0.5 * MODELS["bob"][tensor]) / (ours + 0.5)


def sliced(tensor: str) -> np.ndarray:
    layer = int(tensor.split(".")[2]) if ".layers." in tensor else None
    ours = {None: 0.9 if tensor == "model.norm.weight" else 0.1, 0: 0.1, 1: 0.5, 2: 0.9}[layer]
    theirs = 0.25 if layer == 2 or tensor == "model.norm.weight" else 0.5
    return (ours * MODELS["alice"][tensor] + theirs * MODELS["bob"][tensor]) / (ours + theirs)


def unnormalised(tensor: str) -> np.ndarray:
    return 0.9 * MODELS["alice"][tensor] + 0.4 * MODELS["bob"][tensor]


def arithmetic(tensor: str, *, divides: bool = False) -> np.ndarray:
    a, b = deltas_of(tensor, "alice", "bob")
    scale = 0.2 + 0.8 * place_of(tensor)
    return BASE[tensor] + scale * (0.7 * a - 0.2 * b) / (0.5 if divides else 1)


def ties(tensor: str, *, divides: bool = True) -> np.ndarray:
    place = place_of(tensor)
    kept = [
        top(d, density)
        for d, density in zip(deltas_of(tensor, "alice", "bob", "carol"), (1 - 0.6 * place, 0.5, 1.0), strict=True)
    ]
    return BASE[tensor] + 0.8 * elect(kept, [1.0, place, 0.5 if "mlp" in tensor else 0.1], divides=divides)


def crumbs(tensor: str, *, elects: bool = False) -> np.ndarray:
    place = place_of(tensor)
    kept = [
        top(d, n, g)
        for d, n, g in zip(deltas_of(tensor, "alice", "bob"), (0.9 - 0.4 * place, 0.8), (0.1, 0.01), strict=True)
    ]
    return BASE[tensor] + (elect(kept, [0.7, 0.3], divides=False) if elects else 0.7 * kept[0] + 0.3 * kept[1])


def slerp(tensor: str) -> np.ndarray:
    t = place_of(tensor) if "self_attn" in tensor else 0.5
    return arc(t, BASE[tensor], MODELS["alice"][tensor], 0.9995)


def nuslerp(tensor: str, *, rows: bool = False) -> np.ndarray:
    a, b = deltas_of(tensor, "alice", "bob")
    t = 0.3 / (0.3 + 0.2 + place_of(tensor))
    if not rows:
        return BASE[tensor] + arc(t, a, b, 1)
    pairs = zip(np.atleast_2d(a), np.atleast_2d(b), strict=True)
    return BASE[tensor] + np.array([arc(t, x, y, 1) for x, y in pairs]).reshape(a.shape)


def nuslerp_about_zero(tensor: str) -> np.ndarray:
    return arc(0.3 / (0.3 + 0.2 + place_of(tensor)), MODELS["alice"][tensor], MODELS["bob"][tensor], 1)


def multislerp(tensor: str, *, base: bool = True) -> np.ndarray:
    origin, weights = BASE[tensor] * base, np.array([0.5, 0.2 + place_of(tensor), 1.0])
    deltas = [MODELS[name][tensor] - origin for name in ("alice", "bob", "carol")]
    weights /= weights.sum()
    lengths = np.array([np.linalg.norm(d) for d in deltas])
    mean = sum(w * d / n for w, d, n in zip(weights, deltas, lengths, strict=True))
    return origin + (weights * lengths).sum() * mean / np.linalg.norm(mean)


def karcher(tensor: str) -> np.ndarray:
    models = [MODELS[name][tensor] for name in ("alice", "bob", "carol")]
    lengths = [np.linalg.norm(model) for model in models]
    units = [model / n for model, n in zip(models, lengths, strict=True)]
    mean = sum(units) / np.linalg.norm(sum(units))
    for _ in range(10):
        angles = [np.arccos(np.clip((unit * mean).sum(), -1, 1)) for unit in units]
        step = sum(w / np.sin(w) * (u - np.cos(w) * mean) for u, w in zip(units, angles, strict=True)) / 3
        length = np.linalg.norm(step)
        if length < 1e-5:
            break
        mean = np.cos(length) * mean + np.sin(length) * step / length
        mean /= np.linalg.norm(mean)
    return np.mean(lengths) * mean


def stock(tensor: str) -> np.ndarray:
    a, b = deltas_of(tensor, "alice", "bob")
    cosine = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    t = 2 * cosine / (1 + cosine)
    return BASE[tensor] + t * (a + b) / 2


def sce(tensor: str) -> np.ndarray:
    deltas = np.array(deltas_of(tensor, "alice", "bob", "carol"))
    if "mlp" in tensor:
        spread = deltas.var(axis=0).ravel()
        chosen = np.zeros(spread.size)
        chosen[np.argsort(-spread)[: int(0.3 * np.count_nonzero(spread))]] = 1
        deltas = deltas * chosen.reshape(deltas[0].shape)
    agree = np.sign(deltas) == np.where(deltas.sum(axis=0) >= 0, 1, -1)  # votes are not weighed here
    weights = (deltas**2).reshape(3, -1).mean(axis=1).reshape(3, *[1] * (deltas.ndim - 1)) * agree
    total = weights.sum(axis=0)
    return BASE[tensor] + (weights * deltas).sum(axis=0) / np.where(total == 0, 1, total)


def nearswap(tensor: str) -> np.ndarray:
    (delta,) = deltas_of(tensor, "alice")
    t = 0.01 + 0.1 * place_of(tensor)
    return BASE[tensor] + np.clip(delta, -t, t)


TWO = "models: [{model: alice, parameters: {weight: 0.7}}, {model: bob, parameters: {weight: %s}}]\n"
TIES = """
base_model: base
models:
  - {model: alice, parameters: {weight: 1.0, density: [1, 0.4]}}
  - {model: bob, parameters: {weight: [0, 1], density: 0.5}}
  - {model: carol, parameters: {weight: [{filter: mlp, value: 0.5}, {value: 1e-1}]}}
parameters: {lambda: 0.8, int8_mask: true%s}
"""
CRUMBS = """
base_model: base
models:
  - {model: alice, parameters: {weight: 0.7, density: [0.9, 0.5], gamma: 0.1}}
  - {model: bob, parameters: {weight: 0.3, density: 0.8}}
  - {model: base}
"""
THREE = "models: [{model: alice%s}, {model: bob%s}, {model: carol%s}]\n"
CASES: dict[str, tuple[str, Callable[[str], np.ndarray]]] = {
    "linear": (
        "merge_method: linear\nmodels:\n- {model: alice, parameters: {weight: [{filter: mlp, value: 0.9}, "
        "{filter: '*', value: [0, 1]}]}}\n- {model: bob}\nparameters: {weight: 0.5}\n",
        linear,
    ),
    "linear, in slices of all layers": (
        "merge_method: linear\nparameters: {weight: 0.5}\nslices:\n- sources: [{model: alice, layer_range: [0, 2], "
        "parameters: {weight: [0.1, 0.5]}}, {model: bob, layer_range: [0, 2]}]\n- sources: [{model: alice, "
        "layer_range: [2, 3], parameters: {weight: 0.9}}, {model: bob, layer_range: [2, 3]}]\n"
        "  parameters: {weight: 0.25}\n",
        sliced,
    ),
    "linear, not normalised": (
        "merge_method: linear\nparameters: {normalize: false}\n" + (TWO % 0.4).replace("0.7", "0.9"), unnormalised
    ),
    "task_arithmetic": (
        "merge_method: task_arithmetic\nbase_model: base\nparameters: {lambda: [0.2, 1]}\n" + TWO % -0.2, arithmetic
    ),
    "task_arithmetic, normalised": (
        "merge_method: task_arithmetic\nbase_model: base\nparameters: {lambda: [0.2, 1], normalize: true}\n"
        + TWO % -0.2,
        partial(arithmetic, divides=True),
    ),
    "ties": ("merge_method: ties" + TIES % "", ties),
    "ties, not normalised": ("merge_method: ties" + TIES % ", normalize: false", partial(ties, divides=False)),
    "breadcrumbs": ("merge_method: breadcrumbs" + CRUMBS, crumbs),
    "breadcrumbs_ties": ("merge_method: breadcrumbs_ties" + CRUMBS, partial(crumbs, elects=True)),
    "slerp": (
        "merge_method: slerp\nbase_model: base\nslices:\n- sources: [{model: alice, layer_range: [0, 3]}, "
        "{model: base, layer_range: [0, 3]}]\nparameters: {t: [{filter: self_attn, value: [0, 1]}, {value: 0.5}]}\n",
        slerp,
    ),
    "nuslerp": (
        "merge_method: nuslerp\nbase_model: base\n" + (TWO % 0.3).replace("0.7", "[0.2, 1.2]"), nuslerp
    ),
    "nuslerp by rows": (
        "merge_method: nuslerp\nbase_model: base\nparameters: {nuslerp_flatten: false}\n"
        + (TWO % 0.3).replace("0.7", "[0.2, 1.2]"),
        partial(nuslerp, rows=True),
    ),
    "multislerp": (
        "merge_method: multislerp\nbase_model: base\n"
        + THREE % (", parameters: {weight: 0.5}", ", parameters: {weight: [0.2, 1.2]}", ", parameters: {weight: 1}"),
        multislerp,
    ),
    "nuslerp about zero": (
        "merge_method: nuslerp\n" + (TWO % 0.3).replace("0.7", "[0.2, 1.2]"), nuslerp_about_zero
    ),
    "multislerp about zero": (
        "merge_method: multislerp\n"
        + THREE % (", parameters: {weight: 0.5}", ", parameters: {weight: [0.2, 1.2]}", ", parameters: {weight: 1}"),
        partial(multislerp, base=False),
    ),
    "karcher": ("merge_method: karcher\n" + THREE % ("", "", ""), karcher),
    "model_stock": ("merge_method: model_stock\nbase_model: base\nmodels: [{model: alice}, {model: bob}]\n", stock),
    "sce": (
        "merge_method: sce\nbase_model: base\nparameters: {select_topk: [{filter: mlp, value: 0.3}, {value: 1}]}\n"
        + THREE % ("", "", ""),
        sce,
    ),
    "nearswap": (
        "merge_method: nearswap\nbase_model: base\nparameters: {t: [0.01, 0.11]}\nmodels: [{model: alice}]\n", nearswap
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_recipe_of_mergekit_gives_what_its_formula_says(folders: Path, case: str) -> None:
    text, formula = CASES[case]
    fused = merge(folders, text)
    for tensor in BASE:
        np.testing.assert_allclose(fused[tensor], formula(tensor), rtol=1e-9, atol=1e-11, err_msg=tensor)


@pytest.mark.parametrize("sparse", ["dare", "della"])
@pytest.mark.parametrize("rescale", [True, False])
def test_masks_are_random_and_keep_the_norm_of_each_tensor(folders: Path, sparse: str, rescale: bool) -> None:
    fused = merge(
        folders,
        f"merge_method: {sparse}_linear\nbase_model: base\nparameters: {{rescale: {str(rescale).lower()}}}\n"
        "models: [{model: alice, parameters: {weight: 0.5, density: [1, 0.5, 0.3]}}]\n",
    )
    for tensor, base in BASE.items():
        (delta,) = deltas_of(tensor, "alice")
        moved = (fused[tensor] - base) / 0.5
        kept = moved != 0
        share = {0.0: 1.0, 0.5: 0.5, 1.0: 0.3}[place_of(tensor)]
        factor = np.abs(delta).sum() / np.abs(delta[kept]).sum() if rescale else 1.0
        np.testing.assert_allclose(moved[kept], delta[kept] * factor, rtol=1e-9)
        assert kept.all() if share == 1 else 0 < kept.mean() < 1


@pytest.mark.parametrize("sparse", ["dare", "della"])
def test_a_density_of_one_drops_nothing(folders: Path, sparse: str) -> None:
    fused = merge(
        folders, f"merge_method: {sparse}_ties\nbase_model: base\n".replace("della_ties", "della") + TWO % 0.3
    )
    for tensor, base in BASE.items():
        expected = base + elect(deltas_of(tensor, "alice", "bob"), [0.7, 0.3], divides=sparse == "della")
        np.testing.assert_allclose(fused[tensor], expected, rtol=1e-9, atol=1e-11)
