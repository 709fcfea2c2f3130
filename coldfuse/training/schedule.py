"""What happens at which step, as pure functions of counters: seeds, the order of the examples, the learning rate.

No generator lives from one step to the next. A resumed run therefore needs no random state from its checkpoint: the
number of the step says everything.
"""

import hashlib
from collections.abc import Sequence

_POOL_BATCHES = 16


def derive_seed(*counters: int | str) -> int:
    """Return a seed of 63 bits that depends on every counter; others give an unrelated seed."""
    digest = hashlib.sha256("/".join(map(str, counters)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def epoch_batches(lengths: Sequence[int], *, batch_size: int, seed: int) -> list[list[int]]:
    """Return the indices of each batch of an epoch: random, yet with texts of like length side by side.

    The shuffled examples are cut into pools of 16 batches, each pool is sorted by length and cut into batches, and the
    batches are shuffled. Short texts then are not padded to the length of a long one that happens to share their batch.

    >>> sorted(sorted(batch) for batch in epoch_batches([3, 9, 3, 9], batch_size=2, seed=1))
    [[0, 2], [1, 3]]
    """
    import torch  # noqa: PLC0415 - seeds alone are light

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    pool_size = batch_size * _POOL_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lengths.__getitem__)
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def split_batch(lengths: Sequence[int], batch: Sequence[int], *, tokens_at_once: int) -> list[list[int]]:
    """Split a batch into micro-batches of at most `tokens_at_once` tokens, with padding; a longer text is one alone.

    >>> split_batch([2, 2, 5], [0, 1, 2], tokens_at_once=6)
    [[0, 1], [2]]
    """
    micro_batches: list[list[int]] = [[]]
    for index in sorted(batch, key=lengths.__getitem__):
        if micro_batches[-1] and lengths[index] * (len(micro_batches[-1]) + 1) > tokens_at_once:
            micro_batches.append([])
        micro_batches[-1].append(index)
    return micro_batches


def learning_rate_factor(step: int, *, num_steps: int, warmup_fraction: float) -> float:
    """Return the share of the full learning rate at `step` (from 0): a linear rise, then a linear fall towards 0.

    >>> [learning_rate_factor(step, num_steps=4, warmup_fraction=0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    num_warmup = int(num_steps * warmup_fraction)
    if step < num_warmup:
        return (step + 1) / num_warmup
    return (num_steps - step) / (num_steps - num_warmup)
