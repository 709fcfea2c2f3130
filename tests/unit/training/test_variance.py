"""The variance of weights over snapshots of a training, streamed from model folders."""

import numpy as np
import pytest
from tiny_rounds import floats, integers, parse_file, write_model

from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.statistics import check_statistics
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.training.variance import write_variance


def snapshots(folder, count, *, offset=0.0, scale=1.0, dtype="F32", num_files=1):
    """Write snapshots of one model; return their folders, and the values of the tensor that moves."""
    rng = np.random.default_rng(0)
    folders, values = [], []
    for index in range(count):
        moves = floats(offset + scale * rng.normal(size=(3, 4)), dtype)
        tensors = {"w": moves, "still": floats(np.full(2, 0.1), dtype), "ids": integers([0, 1, index])}
        folders.append(write_model(folder / f"s{index}", tensors, num_files=num_files))
        values.append(moves.floats.astype(np.float64))
    return folders, values


def variance(folder, folders):
    info, num_tensors = write_variance(folder / "v", folders[-1], folders)
    header = read_file_header(folder / "v")
    model = open_checkpoint(folders[-1])
    assert check_statistics(header, model.schema, kind="variance", what="v", model=model.digest()) == info
    assert (info.over, info.count, num_tensors) == ("snapshots", len(folders), 2)
    return {name: tensor.floats.ravel() for name, tensor in parse_file((folder / "v").read_bytes()).items()}


@pytest.mark.parametrize(("offset", "scale", "dtype"), [(0.0, 1.0, "BF16"), (1.0, 1e-6, "F32")])
def test_the_variance_is_that_of_all_snapshots(tmp_path, offset, scale, dtype):
    folders, values = snapshots(tmp_path, 5, offset=offset, scale=scale, dtype=dtype)
    found = variance(tmp_path, folders)
    assert found.keys() == {"w", "still"}
    assert not found["still"].any()
    np.testing.assert_allclose(found["w"], np.var(values, axis=0).ravel(), rtol=1e-6)


def test_files_of_a_snapshot_may_be_cut_as_they_like(tmp_path):
    whole, values = snapshots(tmp_path / "whole", 3)
    cut, _ = snapshots(tmp_path / "cut", 3, num_files=2)
    found = variance(tmp_path, [whole[0], cut[1], whole[2]])
    np.testing.assert_allclose(found["w"], np.var(values, axis=0).ravel(), rtol=1e-6)


def test_too_few_or_other_snapshots_are_refused(tmp_path):
    folders, _ = snapshots(tmp_path, 2)
    other = write_model(tmp_path / "other", {"w": floats(np.ones((3, 5))), "still": floats(np.ones(2))})
    broken = write_model(tmp_path / "broken", {"w": floats(np.full((3, 4), np.nan)), "still": floats(np.ones(2))})
    for given, error, says in [
        (folders[:1], UserInputError, "--snapshot: expected two or more for a variance, got 1"),
        (
            [folders[0], other],
            SchemaMismatchError,
            r"other: tensor w: expected a float of shape \[3, 4\] .* got F32",
        ),
        ([folders[0], broken], UserInputError, "broken: tensor w holds NaN or infinity; leave this snapshot out"),
    ]:
        with pytest.raises(error, match=says):
            write_variance(tmp_path / "v", folders[0], given)
        assert not list(tmp_path.glob("v*"))
