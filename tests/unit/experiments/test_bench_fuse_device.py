import pytest

from coldfuse.engine import job
from coldfuse.errors import UserInputError
from coldfuse.experiments import bench_fuse, bench_fuse_device

OPTIONS = bench_fuse.FuseOptions(
    shape="minilm", num_parameters=20_000, num_contributions=3, dtype="BF16", num_workers=2, num_runs=1
)


def test_a_device_is_measured_on_blocks_and_on_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_DEVICE_STACK_ELEMENTS", 3 << 14)

    found = list(bench_fuse_device.bench_device("cpu:0", OPTIONS))

    assert [each.method for each in found] == ["mean", "ties", *["tsv-m", "regmean"] * 3]
    assert {each.size for each in found} == {"16384 elements of BF16", "12 × 12", "12 × 48", "48 × 12"}
    for each in found[:2]:
        assert each.gb_s is not None
        assert each.share_of_copy is not None
        assert each.seconds.median > 0
        assert min(each.gb_s, each.share_of_copy) > 0
    assert [each.num_matrices for each in found[2::2]] == [25, 6, 6]
    assert all(each.cpu_s for each in found[2:])


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"--device nowhere: .*; expected cpu, or a GPU such as cuda"):
        list(bench_fuse_device.bench_device("nowhere", OPTIONS))
