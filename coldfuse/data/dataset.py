"""A text-classification data set in memory: what a task's file becomes once it is read."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TextDataset:
    """Texts with their labels; a label is an index into `label_names`.

    >>> data = TextDataset(texts=("good", "bad"), labels=(1, 0), label_names=("negative", "positive"))
    >>> len(data), data.num_classes, data.take([1]).texts
    (2, 2, ('bad',))
    """

    texts: tuple[str, ...]
    """What is classified."""
    labels: tuple[int, ...]
    """The class of each text."""
    label_names: tuple[str, ...]
    """The classes' names, in the order that the labels count them."""
    text_pairs: tuple[str, ...] | None = None
    """The second text of each example, in tasks that classify pairs."""
    num_dropped: int = 0
    """How many rows of the file had no text or no label and were left out."""

    def __post_init__(self) -> None:
        """Refuse columns of different lengths and labels without a name: such a value cannot be trained on."""
        lengths = {len(self.texts), len(self.labels)} | (
            {len(self.text_pairs)} if self.text_pairs is not None else set()
        )
        if len(lengths) != 1:
            raise ValueError(f"texts, text_pairs and labels have different lengths: {sorted(lengths)}")
        if any(not 0 <= label < len(self.label_names) for label in self.labels):
            raise ValueError(f"labels must lie in 0..{len(self.label_names) - 1}")

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.texts)

    @property
    def num_classes(self) -> int:
        """How many classes the task has, whether or not each has an example here."""
        return len(self.label_names)

    def take(self, indices: Sequence[int]) -> "TextDataset":
        """Return the examples at `indices`, in that order, as a data set of the same task."""
        pairs = self.text_pairs
        return TextDataset(
            texts=tuple(self.texts[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            label_names=self.label_names,
            text_pairs=None if pairs is None else tuple(pairs[i] for i in indices),
        )
