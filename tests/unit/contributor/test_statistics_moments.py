import numpy as np
import pytest
import torch

from coldfuse.contributor.statistics_moments import RunningMoments
from coldfuse.errors import UserInputError


def snapshots(count, *, offset=0.0, scale=1.0):
    rng = np.random.default_rng(0)
    return [
        {
            "w": torch.tensor(offset + scale * rng.normal(size=(3, 4))),
            "still": torch.full((2,), 0.1),
            "ids": torch.arange(3),
        }
        for _ in range(count)
    ]


def moments(states):
    running = RunningMoments()
    for state in states:
        running.update(state)
    return running


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1.0, 1e-7)])
def test_the_variance_is_that_of_all_snapshots(offset, scale):
    states = snapshots(5, offset=offset, scale=scale)
    variance = moments(states).variance()
    want = np.var([state["w"].numpy() for state in states], axis=0)
    assert variance.keys() == {"w", "still"}
    assert variance["w"].dtype == torch.float32
    np.testing.assert_allclose(variance["w"].numpy(), want, rtol=1e-6)


def test_a_weight_that_never_moves_has_no_variance_whatever_the_floor():
    running = moments(snapshots(7))
    assert not running.variance()["still"].any()
    assert not running.variance(floor=0.5)["still"].any()


def test_the_floor_is_a_share_of_the_mean_over_what_moved():
    running = moments(snapshots(3))
    free, floored = running.variance()["w"], running.variance(floor=0.5)["w"]
    assert (free < 0.5 * free.mean()).any()
    torch.testing.assert_close(floored, free.clamp(min=0.5 * float(free.mean())))


def test_a_snapshot_is_a_copy():
    state = snapshots(1)[0]
    running = moments([state])
    state["w"] += 1
    running.update(state)
    np.testing.assert_allclose(running.variance()["w"].numpy(), 0.25, rtol=1e-6)


def test_too_few_or_other_snapshots_are_refused():
    with pytest.raises(UserInputError, match="1 snapshots have no variance; take two or more"):
        moments(snapshots(1)).variance()
    with pytest.raises(UserInputError, match="other tensors than the ones before"):
        moments([{"w": torch.ones(2)}, {"w": torch.ones(3)}])
