"""Ways and objectives in a node's training: what moves, what a killed run ends in, what stays for later rounds."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integration import training_process
from integration.training_process import SETTINGS, job
from tiny_model import write_tiny_model

from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import LowRankChange, SparseChange
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, Stopped, TrainingJob
from coldfuse.training.settings import TrainingSettings, line_of_way, lines_of_objectives

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and torch's own

BRIEF = replace(SETTINGS, num_epochs=2, learning_rate=1e-2)
EPOCH_STEPS = 8
EVERYTHING = "ewc(strength=1, examples=8) + si + sam + l2-sp + layer-decay + wise-ft"


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


def settings(way: str = "full", *objectives: str, **others: object) -> TrainingSettings:
    return replace(BRIEF, way=line_of_way(way), objectives=lines_of_objectives(objectives), **others)


def here(base_dir: Path, folder: Path, *, number: int = 1) -> TrainingJob:
    return replace(job(base_dir, number=number), folder=folder)


def deltas(outcome: FineTuned | Stopped, base_dir: Path) -> dict[str, bytes]:
    """Return the bytes of what changed, by the base's names."""
    assert isinstance(outcome, FineTuned)
    checkpoint = open_checkpoint(base_dir)
    with TensorReader(checkpoint.files.values()) as theta:
        changes = outcome.changes(theta.floats)
        found = {}
        for name in changes:
            change = changes[name]
            delta = change.read(0, checkpoint.schema[name].num_elements)
            if delta.any():
                kind = type(change).__name__.encode()
                found[name] = kind + np.ascontiguousarray(delta).tobytes()
        return found


def stop_after(num_steps: int) -> tuple[Callable[[object], None], Callable[[], bool]]:
    seen: list[object] = []
    return (lambda event: seen.append(event) if event.phase == "train" else None), lambda: len(seen) == num_steps


RUNS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "lora": ("lora(rank=2)", ("wise-ft", "sam")),
    "vera": ("vera(rank=4)", ("layer-decay",)),
    "masked": ("masked(density=0.05, examples=16)", ("fedprox(mu=1)",)),
    "everything": ("full", (EVERYTHING,)),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(run: str, base_dir: Path, tmp_path: Path) -> None:
    way, objectives = RUNS[run]
    chosen = settings(way, *objectives)
    whole = fine_tune(here(base_dir, tmp_path / "whole"), chosen)
    checkpoint, progress = tmp_path / "run.safetensors", stop_after(EPOCH_STEPS + 3)
    again = here(base_dir, tmp_path / "again")
    stopped = fine_tune(again, chosen, checkpoint=checkpoint, progress=progress[0], stop=progress[1])
    assert stopped == Stopped(step=EPOCH_STEPS + 3, num_steps=2 * EPOCH_STEPS)
    resumed = fine_tune(again, chosen, checkpoint=checkpoint)
    expected = deltas(whole, base_dir)
    assert expected
    assert deltas(resumed, base_dir) == expected
    assert deltas(fine_tune(again, chosen, checkpoint=checkpoint), base_dir) == expected  # finished, and read again
    assert whole.score_after == resumed.score_after


def test_a_killed_run_with_all_objectives_ends_in_the_same_bytes(base_dir: Path, tmp_path: Path) -> None:
    chosen = settings("full", EVERYTHING)
    checkpoint, folder = tmp_path / "run.safetensors", tmp_path / "kept"
    lines = [chosen.way, *chosen.objectives]
    command = [sys.executable, training_process.__file__, str(base_dir), str(checkpoint), str(folder), *lines]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        for line in victim.stdout:
            if line == "train 5\n":
                victim.send_signal(signal.SIGKILL)
                break
        assert victim.wait() == -signal.SIGKILL
    same = replace(chosen, num_epochs=SETTINGS.num_epochs, learning_rate=SETTINGS.learning_rate)
    resumed = fine_tune(here(base_dir, folder), same, checkpoint=checkpoint)
    assert resumed.resumed_at_step in (4, 5)
    whole = fine_tune(here(base_dir, tmp_path / "other"), same)
    assert deltas(resumed, base_dir) == deltas(whole, base_dir)


def test_a_checkpoint_of_another_mask_is_refused_in_words(base_dir: Path, tmp_path: Path) -> None:
    chosen = settings("masked(density=0.0005, kind=random)")
    fine_tune(here(base_dir, tmp_path), replace(chosen, num_epochs=1))
    checkpoint = tmp_path / "run.safetensors"
    progress, stop = stop_after(3)
    second = here(base_dir, tmp_path, number=2)
    assert isinstance(fine_tune(second, chosen, checkpoint=checkpoint, progress=progress, stop=stop), Stopped)
    [mask] = tmp_path.glob("mask-1-*")
    mask.unlink()  # as its owner might: another is chosen in the second round
    with pytest.raises(UserInputError, match=r"run\.safetensors: holds other tensors .* remove it to train anew"):
        fine_tune(second, chosen, checkpoint=checkpoint)
    checkpoint.unlink()
    assert isinstance(fine_tune(second, chosen, checkpoint=checkpoint), FineTuned)


def kinds(found: Mapping[str, bytes]) -> set[bytes]:
    return {delta.partition(b"Change")[0] for delta in found.values()}


@pytest.mark.parametrize(
    ("way", "kind", "ends"),
    [
        ("bias", b"Dense", "bias"),
        ("norms", b"Dense", ("LayerNorm.weight", "LayerNorm.bias")),
        ("lora(rank=2)", b"LowRank", "weight"),
        ("masked(density=0.01, kind=magnitude)", b"Sparse", ("weight", "bias")),
    ],
)
def test_only_what_a_way_trains_moves(
    way: str, kind: bytes, ends: str | tuple[str, ...], base_dir: Path, tmp_path: Path
) -> None:
    outcome = fine_tune(here(base_dir, tmp_path), settings(way))
    found = deltas(outcome, base_dir)
    assert kinds(found) == {kind}
    assert all(name.endswith(ends) for name in found)
    assert outcome.trained == way.partition("(")[0]
    assert outcome.score_after >= outcome.score_before


def test_weight_decay_leaves_what_a_mask_leaves(base_dir: Path, tmp_path: Path) -> None:
    outcome = fine_tune(here(base_dir, tmp_path), settings("masked(density=0.01)", weight_decay=0.5))
    checkpoint = open_checkpoint(base_dir)
    with TensorReader(checkpoint.files.values()) as theta:
        num_moved = sum(
            int((tensor.double().numpy().ravel() != theta.floats(name)).sum())
            for name, tensor in outcome.tensors.items()
        )
    total = sum(spec.num_elements for spec in checkpoint.schema.values())
    assert 0 < num_moved <= round(0.01 * total)


def test_a_strong_pull_keeps_the_model_at_the_base(base_dir: Path, tmp_path: Path) -> None:
    def length(*objectives: str) -> float:
        found = deltas(fine_tune(here(base_dir, tmp_path), settings("full", *objectives)), base_dir)
        return (
            sum(float(np.square(np.frombuffer(delta[len("DenseChange") :])).sum()) for delta in found.values()) ** 0.5
        )

    free = length()
    assert length("fedprox(mu=10)") < 0.7 * free


def test_a_later_round_reads_what_an_earlier_one_left(base_dir: Path, tmp_path: Path) -> None:
    chosen = settings("full", "si(strength=1e4)")
    fine_tune(here(base_dir, tmp_path), chosen)
    held = deltas(fine_tune(here(base_dir, tmp_path, number=2), chosen), base_dir)
    free = deltas(fine_tune(here(base_dir, tmp_path / "empty", number=2), chosen), base_dir)
    assert held != free
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "importance-1.safetensors", "importance-2.safetensors",
    ]  # fmt: skip


def test_gradients_that_are_scaled_are_not_read(base_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="--objective cannot be computed with fp16"):
        fine_tune(here(base_dir, tmp_path), settings("full", "sam", train_args={"fp16": True}))


def test_changes_have_their_own_form(base_dir: Path, tmp_path: Path) -> None:
    outcome = fine_tune(here(base_dir, tmp_path), settings("lora(rank=2, target_modules=query)"))
    with TensorReader(open_checkpoint(base_dir).files.values()) as theta:
        changes = outcome.changes(theta.floats)
        weights = [changes[name] for name in changes if name.endswith("weight")]
        assert all(isinstance(change, LowRankChange) and change.up.shape[1] == 2 for change in weights)
        assert len(weights) == 2
    masked = fine_tune(here(base_dir, tmp_path), settings("masked(density=0.01, kind=random)"))
    with TensorReader(open_checkpoint(base_dir).files.values()) as theta:
        assert all(isinstance(change, SparseChange) for change in dict(masked.changes(theta.floats)).values())
