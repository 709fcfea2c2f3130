"""Outer steps against PyTorch's optimisers and the papers' formulas, round after round."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sampling import SIZES, examples

from coldfuse.fusion.in_memory import move_in_memory
from coldfuse.fusion.method import Outer
from coldfuse.fusion.outer.adaptive import FedAdagrad, FedAdam, FedYogi
from coldfuse.fusion.outer.momentum import Momentum
from coldfuse.fusion.outer.nesterov import Nesterov
from coldfuse.fusion.recipe import Recipe

OUTERS = [Momentum(), Nesterov(), FedAdam(), FedAdam(bias_correction=True), FedYogi(), FedAdagrad()]


def make(num_elements: int, scale: float = 1.0) -> np.ndarray:
    deltas_TN = np.random.default_rng(num_elements).normal(size=(6, num_elements)) * scale
    deltas_TN[2] = 0.0
    return deltas_TN


def walk(outer: Outer, deltas_TN: np.ndarray) -> np.ndarray:
    """The base after every round, from 0 on."""
    base_N, state, bases = np.zeros(deltas_TN.shape[1]), {}, []
    for age, delta_N in enumerate(deltas_TN):
        step_N, state = move_in_memory(Recipe(outers=(outer,)), delta_N, state, age=age)
        base_N = base_N + step_N
        bases.append(base_N)
    return np.array(bases)


def walk_torch(optimizer: type[torch.optim.Optimizer], deltas_TN: np.ndarray, **options: object) -> np.ndarray:
    """The same by an optimiser whose gradient is -Δ."""
    base = torch.zeros(deltas_TN.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser, bases = optimizer([base], **options), []
    for delta_N in deltas_TN:
        base.grad = -torch.from_numpy(delta_N.copy())
        optimiser.step()
        bases.append(base.detach().numpy().copy())
    return np.array(bases)


@pytest.mark.parametrize(
    ("outer", "options"),
    [
        (Momentum(), {"lr": 1.0, "momentum": 0.9}),
        (Momentum(lr=0.3, momentum=0.5), {"lr": 0.3, "momentum": 0.5}),
        (Momentum(momentum=0), {"lr": 1.0}),
        (Nesterov(), {"lr": 0.7, "momentum": 0.9, "nesterov": True}),
        (Nesterov(lr=1.0, momentum=0.8), {"lr": 1.0, "momentum": 0.8, "nesterov": True}),
    ],
    ids=repr,
)
@examples(scale=[1.0, 1e-06], num_elements=SIZES)
def test_momentum_is_that_of_pytorch(outer: Outer, options: dict[str, object], num_elements: int, scale: float) -> None:
    deltas_TN = make(num_elements, scale)
    expected = walk_torch(torch.optim.SGD, deltas_TN, **options)
    assert np.allclose(walk(outer, deltas_TN), expected, rtol=1e-12, atol=1e-15 * scale)


def test_momentum_and_nesterov_by_hand() -> None:
    """Δ = 2 and then 1. Momentum u is 2 and then 2.8, at 0.9."""
    deltas_TN = np.array([[2.0], [1.0]])
    assert np.allclose(walk(Momentum(), deltas_TN), [[2.0], [4.8]])
    assert np.allclose(walk(Nesterov(), deltas_TN), [[0.7 * 3.8], [0.7 * (3.8 + 1 + 0.9 * 2.8)]])


def test_momentum_without_memory_takes_the_delta_as_it_is() -> None:
    deltas_TN = make(50)[:1]
    assert np.array_equal(walk(Momentum(momentum=0), deltas_TN), deltas_TN)


def naive(outer: FedAdam | FedYogi | FedAdagrad, deltas_TN: np.ndarray) -> list[list[float]]:
    """The formula of the paper's algorithm 2, element by element."""
    rows = []
    for deltas_T in deltas_TN.T:
        base, m, v, bases = 0.0, 0.0, outer.tau**2, []
        for delta in map(float, deltas_T):
            m = outer.beta1 * m + (1 - outer.beta1) * delta
            if isinstance(outer, FedAdagrad):
                v = v + delta**2
            elif isinstance(outer, FedAdam):
                v = outer.beta2 * v + (1 - outer.beta2) * delta**2
            else:
                sign = (v > delta**2) - (v < delta**2)
                v = v - (1 - outer.beta2) * delta**2 * sign
            base += outer.lr * m / (math.sqrt(v) + outer.tau)
            bases.append(base)
        rows.append(bases)
    return list(map(list, zip(*rows, strict=True)))


@pytest.mark.parametrize("kind", [FedAdam, FedYogi, FedAdagrad])
@examples(scale=[1.0, 1e-06], num_elements=SIZES)
def test_adaptive_steps_are_those_of_the_paper(kind: type[FedAdam], num_elements: int, scale: float) -> None:
    for outer in (kind(), kind(lr=0.5, beta1=0.7, tau=1e-4)):
        deltas_TN = make(num_elements, scale)
        assert np.allclose(walk(outer, deltas_TN), naive(outer, deltas_TN), rtol=1e-11, atol=1e-14 * scale)


def test_defaults_are_those_of_the_sources() -> None:
    assert [(o.lr, o.beta1, o.tau) for o in (FedAdam(), FedYogi(), FedAdagrad())] == [
        (0.1, 0.9, 1e-3),
        (0.01, 0.9, 1e-3),
        (0.1, 0.0, 1e-3),
    ]
    assert (FedAdam().beta2, FedYogi().beta2) == (0.99, 0.99)


def test_bias_corrected_fedadam_is_adam() -> None:
    """PyTorch adds its ε after the correction, so both are compared where it does not count."""
    deltas_TN = make(50)
    outer = FedAdam(bias_correction=True, lr=0.1, tau=1e-15)
    expected = walk_torch(torch.optim.Adam, deltas_TN, lr=0.1, betas=(0.9, 0.99), eps=1e-15)
    assert np.allclose(walk(outer, deltas_TN), expected, rtol=1e-10)


@pytest.mark.parametrize("outer", OUTERS, ids=repr)
def test_a_first_delta_of_zero_keeps_the_base(outer: Outer) -> None:
    step_N, _ = move_in_memory(Recipe(outers=(outer,)), np.zeros(5), {})
    assert step_N.tobytes() == np.zeros(5).tobytes()


@pytest.mark.parametrize("outer", OUTERS, ids=repr)
@examples(scale=[1e-42, 1e30])
def test_steps_and_state_stay_finite_and_arguments_are_not_changed(outer: Outer, scale: float) -> None:
    delta_N, state = np.array([1.0, -1.0, 0.0]) * scale, tuple(np.zeros(3) for _ in outer.slots)
    step_N, after = outer.step(delta_N, state, age=0)
    assert delta_N.tolist() == [scale, -scale, 0.0]
    assert not np.any(state)
    assert len(after) == len(outer.slots)
    assert all(np.isfinite(array).all() for array in (step_N, *after))
    assert (np.sign(step_N) == [1, -1, 0]).all()
