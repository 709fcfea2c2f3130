"""Inputs are named by what they hold: random masks differ where contents do, and not where only files do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from tiny_rounds import floats, parse_file, write_model

from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.contents import content_digest, sample_digest
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_file import open_tensors

SIZE = 1 << 18
"""Elements of a tensor, of which samples see a quarter."""


def model(folder: Path, seed: int, *, num_files: int = 1, still: bool = False) -> Path:
    """Write a model of two tensors; `still` ones differ in few elements, which no sample sees."""
    rng = np.random.default_rng(0 if still else seed)
    tensors = {name: floats(rng.normal(size=(8, SIZE // 8))) for name in ("a", "b")}
    if still:
        values = tensors["a"].floats.astype(np.float64).reshape(-1)
        values[1500:2500] += seed  # the first sample ends at 1024, the second begins at 8192
        tensors["a"] = floats(values.reshape(8, -1))
    return write_model(folder, tensors, num_files=num_files)


def digests(folder: Path) -> tuple[str, str]:
    sources = list(open_checkpoint(folder).files.values())
    return content_digest(sources), sample_digest(sources)


def test_the_content_is_the_models_digest_and_files_do_not_matter(tmp_path: Path) -> None:
    whole, cut = model(tmp_path / "whole", 1), model(tmp_path / "cut", 1, num_files=2)
    assert digests(whole) == digests(cut)
    assert digests(whole)[0] == open_checkpoint(whole).digest()


def test_samples_see_most_differences_and_the_content_all(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", 1, still=True), model(tmp_path / "two", 2, still=True)
    assert digests(one)[1] == digests(two)[1]
    assert digests(one)[0] != digests(two)[0]
    assert digests(one)[1] != digests(model(tmp_path / "other", 1))[1]


def test_an_empty_model_has_a_name(tmp_path: Path) -> None:
    path = write_model(tmp_path / "empty", {"none": floats(np.zeros((0, 4)))}) / "model.safetensors"
    assert content_digest([open_tensors(LocalFile(path))])


@pytest.mark.parametrize("method", ["dare then mean", "della then mean"])
def test_masks_of_different_contributions_are_independent_even_where_samples_are_equal(
    tmp_path: Path, method: str
) -> None:
    base = write_model(tmp_path / "base", {name: floats(np.zeros((8, SIZE // 8))) for name in ("a", "b")})
    models = [model(tmp_path / f"m{seed}", seed, still=True) for seed in (1, 2)]
    fuse(base, models, tmp_path / "out", method)
    fused = parse_file((tmp_path / "out" / "model.safetensors").read_bytes())["b"].floats
    assert np.mean(fused == 0) == pytest.approx(0.25, abs=0.01)  # 0.5 if both had one mask


@pytest.mark.parametrize("method", ["dare then mean", "mean", "slerp"])
def test_a_contribution_in_other_files_gives_the_same_model(tmp_path: Path, method: str) -> None:
    base = model(tmp_path / "base", 9)
    models = [model(tmp_path / f"m{seed}", seed) for seed in (1, 2)]
    expected = fuse(base, models, tmp_path / "out", method)
    cut = model(tmp_path / "cut", 2, num_files=2)
    assert fuse(base, [models[0], cut], tmp_path / "again", method) == expected
