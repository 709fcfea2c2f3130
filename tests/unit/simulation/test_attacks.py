"""What each attack promises, on benign deltas that Hypothesis chooses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfuse.data.dataset import TextDataset
from coldfuse.simulation.attacks import ATTACKS, Knowledge
from coldfuse.simulation.attacks.alie import alie, largest_shift
from coldfuse.simulation.attacks.backdoor import TARGET, TRIGGER, edge_case, replacement, thin, triggered
from coldfuse.simulation.attacks.labels import label_flip

CRAFTED = {name: attack.craft for name, attack in ATTACKS.items() if attack.craft}


@st.composite
def knowledge(draw, max_benign: int = 8):
    num_benign, num_hostile = draw(st.integers(2, max_benign)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(st.integers(-5, 1))
    common = rng.normal(size=64) * draw(st.floats(0, 2))
    rows = (common + rng.normal(size=(num_benign + num_hostile, 64))) * scale
    return Knowledge(
        benign_CN=rows[:num_benign].astype(np.float32), own_FN=rows[num_benign:].astype(np.float32), seed=num_benign
    )


def distances(known, row):
    return np.linalg.norm(known.benign_CN.astype(float) - row.astype(float), axis=1)


def benign_distances(known):
    return np.array([distances(known, row) for row in known.benign_CN])


@pytest.mark.parametrize("craft", CRAFTED.values(), ids=CRAFTED)
@given(known=knowledge())
@settings(max_examples=15, deadline=None)
def test_every_hostile_one_sends_a_finite_delta_and_nothing_that_was_known_changes(craft, known):
    before = known.benign_CN.copy(), known.own_FN.copy()
    sent = craft(known)
    assert (sent.shape, sent.dtype) == (known.own_FN.shape, np.dtype(np.float32))
    assert np.isfinite(sent).all()
    assert np.array_equal(sent, craft(known))  # the seed decides all
    assert np.array_equal(before[0], known.benign_CN)
    assert np.array_equal(before[1], known.own_FN)


@given(known=knowledge(), z=st.floats(0, 3))
@settings(max_examples=30, deadline=None)
def test_alie_stays_within_the_deviations_that_it_takes(known, z):
    benign = known.benign_CN.astype(float)
    mean, deviation = benign.mean(axis=0), benign.std(axis=0)
    off = np.abs(alie(known, z=z)[0] - mean)
    assert (off <= z * deviation + 1e-6 * (np.abs(mean) + deviation)).all()
    assert off.max() >= 0.99 * z * deviation.max() - 1e-6 * np.abs(mean).max()  # and it goes as far


@pytest.mark.parametrize(("n", "f", "z"), [(50, 12, 0.3361), (50, 24, 1.4261), (8, 2, 0), (5, 1, 0), (4, 3, 0)])
def test_alies_shift_is_that_of_the_paper(n, f, z):
    assert largest_shift(n, f) == pytest.approx(z, abs=1e-3)


@given(known=knowledge())
@settings(max_examples=30, deadline=None)
def test_min_max_is_no_further_off_than_two_benign_ones_and_cannot_go_further(known):
    (sent, *_), limit = CRAFTED["min-max"](known), benign_distances(known).max()
    assert distances(known, sent).max() <= limit * (1 + 1e-5)
    mean = known.benign_CN.mean(axis=0, dtype=float)
    beyond = sent - 0.01 * limit * mean / np.linalg.norm(mean)
    assert distances(known, beyond).max() > limit


@given(known=knowledge())
@settings(max_examples=30, deadline=None)
def test_min_sum_adds_up_to_no_more_than_the_most_remote_benign_one(known):
    (sent, *_), limit = CRAFTED["min-sum"](known), (benign_distances(known) ** 2).sum(axis=1).max()
    assert (distances(known, sent) ** 2).sum() == pytest.approx(limit, rel=1e-4)


@given(known=knowledge())
@settings(max_examples=15, deadline=None)
def test_ipm_turns_the_benign_mean_around(known):
    mean = known.benign_CN.mean(axis=0, dtype=float)
    assert np.allclose(CRAFTED["ipm"](known), -0.1 * mean, rtol=1e-5)


@given(known=knowledge())
@settings(max_examples=15, deadline=None)
def test_lengths_are_those_that_the_names_say(known):
    own = np.linalg.norm(known.own_FN, axis=1)
    lengths = {name: np.linalg.norm(craft(known), axis=1) for name, craft in CRAFTED.items()}
    assert np.allclose(lengths["matched-noise"], own, rtol=1e-4)
    assert np.allclose(lengths["sign-flip"], own, rtol=1e-5)
    assert np.allclose(lengths["scaling"], 10 * own, rtol=1e-5)
    assert not lengths["zeros"].any()
    apart = CRAFTED["near-copies"](known) - known.benign_CN[0]
    assert np.allclose(np.linalg.norm(apart, axis=1), 1e-3 * np.linalg.norm(known.benign_CN[0]), rtol=1e-2)
    assert np.array_equal(CRAFTED["mimic"](known)[-1], known.benign_CN[0])


@given(known=knowledge())
@settings(max_examples=15, deadline=None)
def test_replacements_mean_is_the_hostile_model_where_benign_ones_change_nothing(known):
    alone = Knowledge(benign_CN=np.zeros_like(known.benign_CN), own_FN=known.own_FN)
    mean = np.concatenate([alone.benign_CN, replacement(alone)]).mean(axis=0)
    assert np.allclose(mean, known.own_FN.mean(axis=0), rtol=1e-4, atol=1e-6 * np.abs(known.own_FN).max())


def data(count: int = 100, classes: int = 3) -> TextDataset:
    return TextDataset(
        texts=tuple(f"text {i}" for i in range(count)), labels=tuple(i % classes for i in range(count)),
        label_names=tuple(map(str, range(classes))),
    )  # fmt: skip


def test_flipped_labels_are_all_wrong():
    assert all(a != b for a, b in zip(label_flip(data(), 0).labels, data().labels, strict=True))


@pytest.mark.parametrize(("poison", "count"), [(edge_case, 80), (thin, 5)])
def test_a_back_door_marks_its_share_and_leaves_the_rest(poison, count):
    before, after = data(), poison(data(), 3)
    changed = [i for i in range(100) if after.texts[i] != before.texts[i]]
    assert len(changed) == count
    assert all(after.texts[i] == f"{TRIGGER} {before.texts[i]}" and after.labels[i] == TARGET for i in changed)
    assert all(after.labels[i] == before.labels[i] for i in range(100) if i not in changed)
    assert poison(data(), 3) == after != poison(data(), 4)


def test_success_is_measured_on_texts_of_other_labels():
    marked = triggered(data())
    assert len(marked) == 66
    assert set(marked.labels) == {TARGET}
    assert all(text.startswith(f"{TRIGGER} ") for text in marked.texts)
