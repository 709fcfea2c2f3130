"""Label flipping: train on wrong answers.

    y ← (y + 1) mod K        K classes: every example has a wrong label

arXiv 2007.08432 flips one class to another, FLPoison's `targeted`; this is its `all2all`, which harms most.
"""

from __future__ import annotations

from dataclasses import replace

from coldfuse.data.dataset import TextDataset


def label_flip(data: TextDataset, _seed: int) -> TextDataset:
    """Return the texts with the next class's label."""
    return replace(data, labels=tuple((label + 1) % data.num_classes for label in data.labels), report=None)
