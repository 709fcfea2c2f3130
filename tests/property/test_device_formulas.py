"""What formulas and measures are made of on a device, against the kernels on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coldfuse.engine.device_blocks import one_later
from coldfuse.engine.device_counts import DeviceCounts
from coldfuse.engine.devices import own_stream
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Block, TensorInfo
from coldfuse.fusion.measures import gram, gram_with_base, squared_norms
from coldfuse.fusion.random import key, random_bits, uniform
from coldfuse.fusion.robust.sorting import sort_contributions
from coldfuse.fusion.selection import all_keys, count, guess, nothing


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("first", [0, 3, 2**40])
def test_random_bits_are_the_kernels(count: int, first: int) -> None:
    own = key("seed", str(count), "tensor")
    bits_N = random_bits(int(own), first, torch.zeros(count))
    assert np.array_equal(bits_N.numpy() * 2.0**-53, uniform(own, first, count))


@pytest.mark.parametrize("num_rows", [1, 2, 5, 8, 16])
def test_columns_are_sorted_as_by_the_kernel(num_rows: int) -> None:
    values_CN = np.random.default_rng(num_rows).choice([-1.5, -0.0, 0.0, 5e-324, 2.0, np.inf, np.nan], (num_rows, 64))
    on_device = torch.from_numpy(values_CN.copy())
    sort_contributions(on_device)  # type: ignore[arg-type]
    sort_contributions(values_CN)
    assert values_CN.view(np.uint64).tolist() == on_device.numpy().view(np.uint64).tolist()


@pytest.mark.parametrize("is_guessed", [False, True])
def test_values_are_counted_as_by_the_kernel(is_guessed: bool) -> None:
    values_RN = np.random.default_rng(1).normal(size=(2, 10_000)) * [[1.0], [1e-40]]
    values_RN[:, :3] = 0.0, -0.0, 3.4e38
    windows = all_keys(2, (5, 5000, 9999), 10_000)
    if is_guessed:
        windows = guess(windows, values_RN[:, ::7].astype(np.float32), 10_000)
    expected, counts = nothing(windows), DeviceCounts(windows, "cpu:0")
    for half in (slice(0, 4321), slice(4321, None)):
        count(windows, values_RN[:, half], expected)
        counts.add(torch.from_numpy(values_RN[:, half]))  # type: ignore[arg-type]
    total = counts.total()
    assert np.array_equal(total.below_R, expected.below_R)
    assert np.array_equal(total.bins_RB, expected.bins_RB)


@pytest.mark.parametrize("num_elements", [1, 100, 100_000])
@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_inner_products_on_a_device_keep_their_bound(num_elements: int, scale: float) -> None:
    rows_CN = np.random.default_rng(num_elements).normal(size=(4, num_elements)) * scale
    info = TensorInfo(
        tensor="w", shape=(num_elements,), weights_C=np.ones(4), present_C=np.ones(4, bool),
        keys_C=np.zeros(4, np.uint64), num_elements=num_elements,
    )  # fmt: skip
    block = Block(info=info, first=0, base_N=rows_CN[0], deltas_CN=rows_CN)
    there = Block(info=info, first=0, base_N=torch.tensor(rows_CN[0]), deltas_CN=torch.tensor(rows_CN))  # type: ignore[arg-type]
    bound_CC = 2 * num_elements * 2.0**-53 * (np.abs(rows_CN) @ np.abs(rows_CN).T)
    for measured, bound in (
        (gram("model"), bound_CC),
        (squared_norms("model"), np.diag(bound_CC)),
        (gram_with_base("model"), np.pad(bound_CC, ((1, 0), (1, 0)), mode="edge")),
    ):
        got, expected = measured.of(there), measured.of(block)
        assert isinstance(got, torch.Tensor)
        assert (np.abs(got.numpy() - expected) <= bound).all()


def test_results_are_waited_for_one_later() -> None:
    begun: list[int] = []
    waited = [(item, len(begun)) for item in one_later(begun.append(i) or i for i in range(3))]  # type: ignore[func-returns-value]
    assert waited == [(0, 2), (1, 3), (2, 3)]


def test_a_device_that_is_full_is_no_bug() -> None:
    said = r"--device cpu:0: CUDA out of memory\. Tried.*; give fewer --workers"
    with pytest.raises(UserInputError, match=said), own_stream("cpu:0"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")
