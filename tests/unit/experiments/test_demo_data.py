import json

import pytest
from pyarrow import parquet

from coldfuse.data.reading import read_dataset
from coldfuse.evaluation.gate_suites import SuiteFiles, read_suite
from coldfuse.experiments import demo_data
from coldfuse.experiments.demo_data.rows import private_rows, write_suite


@pytest.mark.parametrize("task", demo_data.SAMPLES, ids=lambda task: task.name)
def test_a_bundled_task_can_be_learnt_and_tested_without_overlap(task):
    train = read_dataset(task.train_file)
    test = read_dataset(task.test_file, label_names=train.label_names)
    assert train.num_dropped == test.num_dropped == 0
    assert set(test.labels) <= set(train.labels)
    assert len(test) >= demo_data.DEFAULT.num_probe_test
    assert not set(zip(train.texts, train.text_pairs or train.texts, strict=True)) & set(
        zip(test.texts, test.text_pairs or test.texts, strict=True)
    )


@pytest.mark.parametrize("task", demo_data.SAMPLES, ids=lambda task: task.name)
def test_a_bundled_task_says_where_it_comes_from_and_under_which_licence(task):
    card = json.loads((demo_data.FOLDER / task.name / "card.json").read_text(encoding="utf-8"))
    acknowledged = (demo_data.FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    assert card["name"] == task.name
    assert all(card[key] in acknowledged for key in ("source", "licence", "licence_url", "citation", "changes"))


def test_the_bundle_is_small():
    assert sum(file.stat().st_size for file in demo_data.FOLDER.rglob("*") if file.is_file()) < 2_000_000


def test_three_tasks_have_contributors_and_two_have_none():
    assert [task.is_seen for task in demo_data.TASKS] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("settings", [demo_data.DEFAULT, demo_data.FAST], ids=["default", "fast"])
def test_contributors_the_operator_and_the_table_have_no_example_in_common(settings, tmp_path):
    for task in demo_data.TASKS[:3]:
        suite = read_suite(SuiteFiles.parse(write_suite(task, settings, tmp_path)))  # as the aggregator does
        fit, compare = set(suite.train.texts), set(suite.test.texts)
        private = set(private_rows(task, settings, seed=0)["text"].to_pylist())
        scored = set(read_dataset(task.test_file).texts[: settings.num_probe_test])
        assert len(fit) == settings.num_suite
        assert len(compare) >= 200
        assert not (fit | compare) & (private | scored)
        assert not fit & compare


def test_shuffled_labels_are_those_of_the_task_and_of_other_rows():
    shuffled = private_rows(demo_data.HARMFUL, demo_data.FAST, seed=0)
    rows = parquet.read_table(demo_data.HARMFUL_TEXTS.train_file).slice(0, demo_data.FAST.num_harmful)
    assert shuffled["text"] == rows["text"]
    assert sorted(shuffled["label"].to_pylist()) == sorted(rows["label"].to_pylist())
    same = sum(a == b for a, b in zip(shuffled["label"].to_pylist(), rows["label"].to_pylist(), strict=True))
    assert same < 0.1 * len(rows)
