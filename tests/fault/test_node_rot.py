"""A disk that decays under a node, file by file: no start ends by it, and the release has the same bytes."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from reviews import write_reviews
from tiny_rounds import lead
from upgrades.record import TRAINING, node_of, write_model

from coldfuse.contributor.events import NodeEvent, StoppedError
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore

ONE_EPOCH = dataclasses.replace(TRAINING, num_epochs=1)
STAGES = {
    "training": lambda event: event.phase == "training" and "step 5" in event.message,
    "trained": lambda event: event.phase == "trained",
    "sent": lambda event: event.phase == "committed",
}
WORK, BASE = "node/release-00000", "node/base"


def run(folder: Path, report: Callable[[NodeEvent], bool]) -> list[NodeEvent]:
    """Start the node that lives in a folder, until what it reports is the end."""
    federation = open_federation(LocalStore(folder / "store"))
    node, events = node_of(federation, folder, name="ada", training=ONE_EPOCH, is_end=report)
    with node.folder.held():
        try:
            node.run(rounds=1)
        except StoppedError:
            pass
    return events


def finish(folder: Path, also: Callable[[NodeEvent], object] = lambda _: None) -> tuple[Federation, list[NodeEvent]]:
    """Start the node again, and let it come to its release."""
    federation = open_federation(LocalStore(folder / "store"))

    def report(event: NodeEvent) -> bool:
        also(event)
        if event.phase == "waiting":
            lead(federation, 1)
        return False

    events = run(folder, report)
    assert events[-1].phase == "released"
    return federation, events


def damages(events: list[NodeEvent]) -> list[str]:
    return [event.message for event in events if event.phase == "damaged"]


def write_base(folder: Path) -> Path:
    """Make a federation on a tiny model in a folder's store, and open its first round."""
    base, store = write_model(folder / "model"), LocalStore(folder / "store")
    rules = {"quorum": 1, "deadline_s": 1e8}
    lead(create_federation(store, name="tiny", base=base, origin="test", method="mean", rules=rules), 1)
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, Path]:
    """Folders of a store and a node that was ended at each stage of its round."""
    root, found = write_base(tmp_path_factory.mktemp("rot")), {}
    for name, is_end in STAGES.items():
        found[name] = root / name
        shutil.copytree(root / "store", root / name / "store")
        write_reviews(root / name / "data.csv", num=40)
        run(root / name, is_end)
    return found


@pytest.fixture(scope="module")
def undisturbed(stages, tmp_path_factory) -> str:
    folder = shutil.copytree(stages["training"], tmp_path_factory.mktemp("undisturbed") / "c")
    return finish(folder)[0].latest().model_digest


def damage(path: Path, kind: str) -> None:
    """Damage a file in place, as a disk does: nothing but its bytes and its size tells."""
    state, data = path.stat(), bytearray(path.read_bytes())
    if kind == "flip":
        data[len(data) * 2 // 3] ^= 4
    with path.open("r+b") as file:
        file.truncate({"empty": 0, "cut": len(data) // 2, "flip": len(data)}[kind])
        file.write(data if kind == "flip" else b"")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize(
    ("stage", "name", "kind"),
    [
        ("training", f"{WORK}/checkpoint.safetensors", "flip"),
        ("training", f"{BASE}/.coldfuse/release.json", "flip"),
        ("trained", f"{WORK}/trained.json", "flip"),
        ("trained", f"{WORK}/delta.safetensors", "flip"),
        ("sent", f"{WORK}/trained.json", "cut"),
        ("sent", f"{WORK}/sent.json", "flip"),
        ("sent", f"{WORK}/sent.json", "empty"),
        ("sent", f"{WORK}/delta.safetensors", "empty"),
        ("sent", f"{BASE}/.coldfuse/written.json", "cut"),
    ],
)
def test_a_damaged_file_costs_no_round(stages, undisturbed, tmp_path, stage, name, kind):
    folder = shutil.copytree(stages[stage], tmp_path / "c")
    damage(folder / name, kind)
    federation, events = finish(folder)
    assert federation.latest().model_digest == undisturbed
    assert len(federation.journal(1).state().received) == 1
    is_read_again = name.startswith(WORK) and not (stage == "sent" and "delta" in name)
    assert len(damages(events)) == is_read_again


def test_a_lost_mark_of_the_nodes_own_base_is_no_reason_to_end(stages, undisturbed, tmp_path):
    folder = shutil.copytree(stages["training"], tmp_path / "c")
    (folder / BASE / ".coldfuse" / "written.json").unlink()
    assert finish(folder)[0].latest().model_digest == undisturbed


@pytest.mark.parametrize("when", ["before it trains", "step 8"])
def test_a_bit_that_flips_in_the_base_is_noticed_before_a_delta_of_it_leaves(stages, undisturbed, tmp_path, when):
    folder = shutil.copytree(stages["training"], tmp_path / "c")
    shutil.rmtree(folder / WORK)
    model, steps = folder / BASE / "model.safetensors", []

    def flip(event: NodeEvent) -> None:
        if when in event.message and not steps:
            steps.append(event)
            damage(model, "flip")

    if when != "step 8":
        damage(model, "flip")
        take_for_unchanged(folder / BASE)
    federation, events = finish(folder, flip)
    assert len(steps) == (when == "step 8")
    [sentence] = damages(events)
    assert "the copy of the base was damaged" in sentence
    assert federation.latest().model_digest == undisturbed


def take_for_unchanged(base: Path) -> None:
    """Make a fetch's look at the files of a folder that was copied find what it noted."""
    from coldfuse.consumer.folder import look, read_fetched, write_seen

    manifest = read_fetched(base)
    assert manifest is not None
    write_seen(base, look(base, sorted(manifest.files)))
