"""Features that are kept: computed once, bounded, and computed again where the disk has changed them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from coldfuse.errors import UserInputError
from coldfuse.training.feature_cache import FeatureCache


class Maker:
    """Makes features, and counts how often."""

    def __init__(self, rows: int = 4) -> None:
        self.count, self.made = 0, torch.arange(rows * 3, dtype=torch.float32).reshape(rows, 3)

    def __call__(self) -> Tensor:
        self.count += 1
        return self.made


def test_features_are_computed_once_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    cache, maker = FeatureCache(folder=tmp_path), Maker()
    first, second = cache.get("a" * 64, maker), FeatureCache(folder=tmp_path).get("a" * 64, maker)
    assert maker.count == 1
    assert torch.equal(first, maker.made)
    assert torch.equal(second, maker.made)


@pytest.mark.parametrize("place", [-1, 30, 4])
def test_a_flipped_bit_is_found_and_the_features_are_computed_again(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    cache, maker = FeatureCache(folder=tmp_path), Maker()
    cache.get("a" * 64, maker)
    [path] = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert torch.equal(cache.get("a" * 64, maker), maker.made)
    assert torch.equal(cache.get("a" * 64, maker), maker.made)
    assert maker.count == 2
    assert "computed again" in caplog.text


def test_a_file_that_is_cut_off_is_computed_again(tmp_path: Path) -> None:
    cache, maker = FeatureCache(folder=tmp_path), Maker()
    cache.get("a" * 64, maker)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    cache.get("a" * 64, maker)
    assert maker.count == 2


def test_what_was_not_asked_for_longest_goes_first(tmp_path: Path) -> None:
    maker = Maker()
    FeatureCache(folder=tmp_path).get("size", maker)
    size = (tmp_path / "size.safetensors").stat().st_size
    (tmp_path / "size.safetensors").unlink()
    cache = FeatureCache(folder=tmp_path, max_bytes=2 * size)
    for number, key in enumerate(("first", "second")):
        cache.get(key, maker)
        os.utime(tmp_path / f"{key}.safetensors", (number, number))
    cache.get("first", maker)  # asked for again: now the newest
    cache.get("third", maker)
    assert {path.stem for path in tmp_path.iterdir()} == {"first", "third"}


def test_what_is_larger_than_all_of_it_is_not_kept(tmp_path: Path) -> None:
    maker = Maker()
    assert torch.equal(FeatureCache(folder=tmp_path, max_bytes=10).get("a", maker), maker.made)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserInputError, match="taken"):
        FeatureCache(folder=tmp_path / "taken").get("a", Maker())
