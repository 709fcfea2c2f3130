"""Small samples of openly licensed tasks, and the settings with which the demonstration trains on them.

Three tasks are *seen*: each belongs to one contributor. Two are *unseen*: nobody trains on them, and they show what the
shared body has learnt beyond its contributors' tasks. `LICENSES.md` gives the credits, each folder's `card.json` the
source, the licence and what was done to the data.

Which tasks are unseen follows from their descriptions alone, and was settled before a model was scored on this choice:
in English, as the base and the contributors' texts are, and one of each kind of task that contributors have. Intents of
customers and of users of an assistant are seen, so `clinc150` (intents, of ten other domains) is unseen; emotions of
comments are seen, so `poem_sentiment` is. Not taken are `germeval2018`, which is German, and `boolq`, which asks about
passages: nobody here has anything like it.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
"""Folder of the samples."""


@dataclass(frozen=True, kw_only=True)
class DemoTask:
    """One bundled task."""

    name: str
    """Name of the folder and of the contributor."""
    is_seen: bool
    """True if a contributor trains on the task; otherwise it is only evaluated."""

    @property
    def train_file(self) -> Path:
        """File with the contributor's examples, and those that the probe is fitted on."""
        return FOLDER / self.name / "train.parquet"

    @property
    def test_file(self) -> Path:
        """File with the examples that releases are scored on; no training text is among them."""
        return FOLDER / self.name / "test.parquet"


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How long the demonstration trains and what it scores."""

    num_rounds: int
    """Rounds, each with a release at its end."""
    num_train: int
    """Examples that each contributor reads of its file, from the top; a tenth of them only validates."""
    num_epochs: int
    """Passes over the training examples in each round."""
    batch_size: int
    """Examples in one optimiser step."""
    learning_rate: float
    """AdamW's step size at its highest."""
    max_length: int
    """Tokens of a text that are read, in training and in scoring."""
    tokens_at_once: int
    """Tokens that pass through the body at once in training: keeps four contributors within a laptop's memory."""
    num_probe_train: int
    """Examples that the linear probe of a task is fitted on."""
    num_probe_test: int
    """Examples that the linear probe of a task is scored on."""
    num_suite: int
    """Other examples of each seen task that the operator has, on which the aggregator compares what was fused with its
    base: so many for the probe, and at most so many to compare on."""
    num_harmful: int
    """Examples of the contributor whose labels are shuffled, which counts by their number like everybody."""
    harmful_learning_rate: float
    """AdamW's step size at its highest of that contributor."""


SAMPLES = tuple(
    DemoTask(name=name, is_seen=name in ("snips", "banking77", "goemotions_ekman"))
    for name in (
        "snips", "banking77", "goemotions_ekman", "clinc150", "poem_sentiment", "germeval2018", "boolq"
    )
)  # fmt: skip
"""All samples."""

TASKS = SAMPLES[:5]
"""The tasks, those of contributors first."""

HARMFUL = DemoTask(name="shuffled", is_seen=False)
"""One more contributor, with texts of `HARMFUL_TEXTS` and shuffled labels: what it sends is well-formed, and harms."""

HARMFUL_TEXTS = TASKS[1]

DEFAULT = DemoSettings(
    num_rounds=3,
    num_train=480,
    num_epochs=1,
    batch_size=32,
    learning_rate=3e-4,
    max_length=40,
    tokens_at_once=800,
    num_probe_train=600,
    num_probe_test=300,
    num_suite=300,
    num_harmful=960,
    harmful_learning_rate=3e-3,
)
"""A few minutes on two cores, with the start of all processes."""

FAST = DemoSettings(
    num_rounds=2,
    num_train=400,
    num_epochs=1,
    batch_size=32,
    learning_rate=3e-4,
    max_length=32,
    tokens_at_once=800,
    num_probe_train=400,
    num_probe_test=300,
    num_suite=200,
    num_harmful=800,
    harmful_learning_rate=3e-3,
)
"""Fewer rounds and examples give a smaller rise, and fewer rows to compare on more noise."""
