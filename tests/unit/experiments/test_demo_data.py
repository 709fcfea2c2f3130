import json

import pytest

from coldfuse.data.reading import read_dataset
from coldfuse.experiments import demo_data


@pytest.mark.parametrize("task", demo_data.TASKS, ids=lambda task: task.name)
def test_a_bundled_task_can_be_learnt_and_tested_without_overlap(task):
    train = read_dataset(task.train_file)
    test = read_dataset(task.test_file, label_names=train.label_names)
    assert train.num_dropped == test.num_dropped == 0
    assert set(test.labels) <= set(train.labels)
    assert len(test) >= demo_data.DEFAULT.num_probe_test
    assert not set(zip(train.texts, train.text_pairs or train.texts, strict=True)) & set(
        zip(test.texts, test.text_pairs or test.texts, strict=True)
    )


@pytest.mark.parametrize("task", demo_data.TASKS, ids=lambda task: task.name)
def test_a_bundled_task_says_where_it_comes_from_and_under_which_licence(task):
    card = json.loads((demo_data.FOLDER / task.name / "card.json").read_text(encoding="utf-8"))
    acknowledged = (demo_data.FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    assert card["name"] == task.name
    assert all(card[key] in acknowledged for key in ("source", "licence", "licence_url", "citation", "changes"))


def test_the_bundle_is_small():
    assert sum(file.stat().st_size for file in demo_data.FOLDER.rglob("*") if file.is_file()) < 2_000_000


def test_four_tasks_have_contributors_and_two_have_none():
    assert [task.is_seen for task in demo_data.TASKS] == [True] * 4 + [False] * 2
