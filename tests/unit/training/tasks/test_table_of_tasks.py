"""The README's table of tasks, held true."""

import re
from pathlib import Path

from coldfuse.training.tasks import TASKS, find_task

README = (Path(__file__).parents[4] / "README.md").read_text()
TABLE = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", README.partition("| `--task` |")[2], re.MULTILINE))


def test_each_task_is_in_the_table_with_its_metric():
    assert TABLE.keys() >= TASKS.keys()
    for name in TASKS:
        _, metric, stays = TABLE[name].split(" | ")
        assert metric.startswith(find_task(name).metric)
        assert stays.startswith("layer") == find_task(name).has_private_head
