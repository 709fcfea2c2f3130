import pytest

from coldfuse.training.schedule import derive_seed, epoch_batches, learning_rate_factor, split_batch


@pytest.mark.parametrize("num_examples", [1, 32, 33, 1000])
def test_every_example_is_in_exactly_one_batch(num_examples):
    lengths = [5 + (7 * index) % 40 for index in range(num_examples)]
    batches = epoch_batches(lengths, batch_size=32, seed=num_examples)
    assert sorted(index for batch in batches for index in batch) == list(range(num_examples))
    assert len(batches) == -(-num_examples // 32)
    assert max(len(batch) for batch in batches) <= 32


def test_batches_depend_on_the_seed_alone():
    lengths = list(range(100))
    assert epoch_batches(lengths, batch_size=8, seed=1) == epoch_batches(lengths, batch_size=8, seed=1)
    assert epoch_batches(lengths, batch_size=8, seed=1) != epoch_batches(lengths, batch_size=8, seed=2)


def test_texts_of_like_length_share_a_batch():
    lengths = [4, 100] * 256
    batches = epoch_batches(lengths, batch_size=32, seed=0)
    assert sum(max(lengths[i] for i in batch) * len(batch) for batch in batches) <= 1.1 * sum(lengths)


@pytest.mark.parametrize("tokens_at_once", [1, 10, 64])
def test_parts_of_a_batch_hold_all_of_it_within_the_limit(tokens_at_once):
    lengths = [3, 9, 4, 20, 5]
    parts = split_batch(lengths, [4, 3, 1, 0], tokens_at_once=tokens_at_once)
    assert sorted(index for part in parts for index in part) == [0, 1, 3, 4]
    assert all(len(part) == 1 or max(lengths[i] for i in part) * len(part) <= tokens_at_once for part in parts)


def test_the_learning_rate_rises_then_falls_and_is_never_zero():
    factors = [learning_rate_factor(step, num_steps=100, warmup_fraction=0.1) for step in range(100)]
    assert max(factors) == factors[9] == factors[10] == 1.0
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert min(factors) > 0
    assert learning_rate_factor(0, num_steps=1, warmup_fraction=0.06) == 1.0


def test_seeds_of_different_counters_differ():
    seeds = {derive_seed(0, purpose, step) for purpose in ("order", "dropout") for step in range(100)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 12) != derive_seed(11, 2)
