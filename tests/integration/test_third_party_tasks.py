"""Another package brings a task: found by its entry point, trained like any other, or named where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.training_process import SETTINGS, job
from tiny_model import write_tiny_model

from coldfuse.errors import UserInputError
from coldfuse.training import tasks
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned

MODULE = '''
"""A task of somebody else: the classes of texts, scored by scikit-learn's balanced accuracy."""

from dataclasses import dataclass
from typing import ClassVar

from coldfuse.training.tasks.text_classification import TextClassification


@dataclass(frozen=True, kw_only=True)
class Balanced(TextClassification):
    name: ClassVar[str] = "balanced-classification"
    metric: ClassVar[str] = "balanced accuracy"

    adjusted: bool = False
    weight: float = 1.0

    def score(self, loaded, examples, features):
        from sklearn.metrics import balanced_accuracy_score

        from coldfuse.training.classifying import logits_of

        said = logits_of(loaded, features).argmax(dim=1).cpu().numpy()
        return self.weight * float(balanced_accuracy_score(examples.labels, said, adjusted=self.adjusted))


class Nothing:
    pass
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lay a package out in a folder as pip would: its module, and its metadata with the entry points."""

    def lay(points: dict[str, str]) -> None:
        info = tmp_path / "site" / "coldfuse_balanced-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coldfuse-balanced\nVersion: 1.0\n")
        lines = [f"{name} = {value}\n" for name, value in points.items()]
        (info / "entry_points.txt").write_text("".join(["[coldfuse.tasks]\n", *lines]))
        (tmp_path / "site" / "coldfuse_balanced.py").write_text(MODULE)
        monkeypatch.syspath_prepend(tmp_path / "site")
        tasks._foreign.cache_clear()

    yield lay
    monkeypatch.undo()
    tasks._foreign.cache_clear()


def test_an_installed_task_is_listed_and_trained(install, tmp_path):
    install({"balanced-classification": "coldfuse_balanced:Balanced"})
    assert tasks.known_tasks()[-1] == "balanced-classification"
    task = tasks.find_task("balanced-classification(adjusted=yes)")
    assert tasks.describe_task(task) == "balanced-classification(adjusted=True)"
    assert tasks.describe_task(tasks.find_task("balanced-classification")) == "balanced-classification"
    base = write_tiny_model(tmp_path / "base")
    made = fine_tune(job(base, task="balanced-classification"), SETTINGS)
    assert isinstance(made, FineTuned)
    assert made.private.task == "balanced-classification"
    assert made.score_after == 1.0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("token-clasification", "task 'token-clasification' is not known; known are text-classification, "),
        ("balanced-classification(wait=1)", "has no option 'wait'; it has adjusted, weight"),
        ("balanced-classification(adjusted=perhaps)", "adjusted is 'perhaps', expected yes or no"),
        ("balanced-classification(weight=heavy)", "weight is 'heavy', expected a number"),
        ("balanced-classification(weight)", "'weight' is no option, expected NAME=VALUE, each once"),
        ("balanced-classification(weight=1", "is not known"),
    ],
)
def test_what_a_user_says_wrong_is_told_the_right(install, line, says):
    install({"balanced-classification": "coldfuse_balanced:Balanced"})
    with pytest.raises(UserInputError) as found:
        tasks.find_task(line)
    assert says in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ({"lost": "nowhere:Balanced"}, "cannot be loaded: No module named 'nowhere'; repair or remove that package"),
        ({"lost": "coldfuse_balanced:Nowhere"}, "cannot be loaded: module 'coldfuse_balanced' has no attribute"),
        ({"lost": "coldfuse_balanced:Nothing"}, "expected a class that is a Task; it lacks name, metric"),
        ({"lost": "coldfuse_balanced:MODULE"}, "cannot be loaded"),
        ({"regression": "coldfuse_balanced:Balanced"}, "there is a task of this name already; rename it"),
    ],
)
def test_a_broken_package_is_named_in_one_line(install, points, says):
    install(points)
    [(name, value)] = points.items()
    with pytest.raises(UserInputError) as found:
        tasks.find_task(name if name == "lost" else "another")
    assert str(found.value).startswith(f"entry point {name} = {value} of coldfuse-balanced: ")
    assert says in str(found.value)
