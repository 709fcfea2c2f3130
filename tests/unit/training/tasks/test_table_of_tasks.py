"""The README's table of tasks, held true, and the options that tasks have."""

import re
from pathlib import Path

import pytest

from coldfuse.errors import UserInputError
from coldfuse.training.tasks import TASKS, describe_task, find_task
from coldfuse.training.tasks.task import DataRequest

README = (Path(__file__).parents[4] / "README.md").read_text()
TABLE = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", README.partition("| `--task` |")[2], re.MULTILINE))


def test_each_task_is_in_the_table_with_its_metric():
    assert TABLE.keys() >= TASKS.keys()
    for name in TASKS:
        _, metric, stays = TABLE[name].split(" | ")
        assert metric.startswith(find_task(name).metric)
        assert stays.startswith("layer") == find_task(name).has_private_head


@pytest.mark.parametrize("prefix", ["summarize: ", "first, then: ", "plain", "say 'hi', ", '"quoted", ', "don't "])
def test_a_line_of_options_keeps_every_letter_of_a_value(prefix):
    quote = "'" if '"' in prefix else '"'
    task = find_task(f"text2text-generation(prefix={quote}{prefix}{quote}, private_head=yes)")
    assert (task.prefix, task.private_head) == (prefix, True)
    assert find_task(describe_task(task)) == task


@pytest.mark.parametrize("mark", ["|", ";", ","])
def test_what_is_advised_for_labels_in_one_cell_reads_them(mark, tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [f'{{"text": "number {n}", "labels": "a{mark} b"}}' for n in range(6)]
    path.write_text("\n".join(rows))
    with pytest.raises(UserInputError, match="what stands between labels") as refused:
        find_task("multi-label-classification").read(DataRequest(data=path))
    advised = re.search(r"--task '(.+?\))'", str(refused.value))
    assert find_task(advised[1]).read(DataRequest(data=path)).names == ("a", "b")
