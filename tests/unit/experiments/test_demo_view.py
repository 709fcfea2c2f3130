import io
import json

from rich.console import Console

from coldfuse.experiments.demo_view import DemoView, ReleaseScores, Results


def test_a_line_is_printed_when_somebody_begins_something_new():
    console = Console(file=io.StringIO(), width=100)
    events = [("training", "0 %", 0.0), ("training", "50 %", 0.5), ("trained", "better", None), ("waiting", "", None)]
    lines = [
        json.dumps({"phase": phase, "base_release": 0, "message": message, "done": done})
        for phase, message, done in events
    ]
    with DemoView(console, ("alice",)) as view:
        view.follow_contributor("alice", lines).join()
        view.follow_aggregator(["round 1: opened\n"]).join()
    said = [line.split(maxsplit=1) for line in console.file.getvalue().splitlines()]
    assert said == [
        ["alice", "round 1: training, 0 %"], ["alice", "round 1: trained, better"], ["alice", "done"],
        ["aggregator", "round 1: opened"],
    ]  # fmt: skip


def test_a_contributor_that_failed_is_not_done():
    console = Console(file=io.StringIO(), width=100)
    with DemoView(console, ("alice",)) as view:
        lines = [
            json.dumps({"phase": "connecting", "base_release": None, "message": "trying [/x]", "done": None}),
            "no event",
        ]
        view.follow_contributor("alice", lines, lambda: "failed: no disk").join()
    said = [line.split(maxsplit=1) for line in console.file.getvalue().splitlines()]
    assert said == [["alice", "connecting, trying [/x]"], ["alice", "failed: no disk"]]


def test_on_a_terminal_lines_change_in_place():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with DemoView(console, ("alice",)) as view:
        view.show("alice", "training", done=0.5)
    said = console.file.getvalue()
    assert "starting" in said
    assert "training" in said


def test_results_have_the_means_of_seen_and_unseen_sets(tmp_path):
    base = ReleaseScores.of(0, "a" * 64, {"x": 0.5, "y": 0.7, "z": 0.1}, seen=["x", "y"])
    first = ReleaseScores.of(1, "b" * 64, {"x": 0.6, "y": 0.8, "z": 0.2}, seen=["x", "y"])
    results = Results(seen=("x", "y"), unseen=("z",), rounds=(base, first), seed=0, base="b", model="m", seconds=1.0)
    results.write(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["rounds"][1]["unseen_mean"] == 0.2
    table = Console(file=io.StringIO(), width=100)
    table.print(results.table())
    lines = [line.split("│")[1:-1] for line in table.file.getvalue().splitlines() if "mean of" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["mean of seen", "60.0", "70.0"], ["mean of unseen", "10.0", "20.0"],
    ]  # fmt: skip
