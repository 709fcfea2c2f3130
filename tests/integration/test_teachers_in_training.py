"""B-Tuning as an option of the objective: its numbers are the paper's, and a run that ends early goes on the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from integration import training_process
from integration.training_process import SETTINGS, job
from tiny_model import write_tiny_model
from torch.nn.functional import cross_entropy

from coldfuse.errors import UserInputError
from coldfuse.training.feature_cache import FeatureCache
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.frozen import Passing
from coldfuse.training.job import FineTuned, Stopped, TrainingJob
from coldfuse.training.settings import TrainingSettings, lines_of_objectives, with_teachers

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own

BRIEF = replace(SETTINGS, num_epochs=2, learning_rate=1e-2)
EPOCH_STEPS = 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, and a teacher that is wider, all without dropout."""
    place, found = tmp_path_factory.mktemp("models"), {}
    for seed, (name, size) in enumerate({"base": 32, "one": 32, "wide": 64}.items()):
        found[name] = write_tiny_model(place / name, seed=seed, hidden_size=size)
        config = json.loads((found[name] / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (found[name] / "config.json").write_text(json.dumps(config))
    return found


def taught(models: dict[str, Path], line: str = "b-tuning", **others: object) -> TrainingSettings:
    lines = with_teachers([line], [models["one"], models["wide"]])
    return replace(BRIEF, dropout=0.0, objectives=lines_of_objectives(lines), **others)


def here(models: dict[str, Path], folder: Path | None, *, task: str = "text-classification") -> TrainingJob:
    return replace(job(models["base"], task=task), folder=folder)


def tensors(outcome: FineTuned | Stopped) -> dict[str, bytes]:
    assert isinstance(outcome, FineTuned)
    return {name: tensor.numpy().tobytes() for name, tensor in outcome.tensors.items()}


def stop_after(num_steps: int) -> tuple[Callable[[object], None], Callable[[], bool]]:
    seen: list[object] = []
    return (lambda event: seen.append(event) if event.phase == "train" else None), lambda: len(seen) == num_steps


def bayesian(features: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return evidence over N and posterior mean by dense algebra: the paper's equations as they stand."""
    num, width = features.shape
    alpha = beta = 1.0
    for _ in range(11):
        ratio = alpha / beta
        inverse = np.linalg.inv(alpha * np.eye(width) + beta * features.T @ features)
        mean = beta * inverse @ features.T @ target
        gamma = width - alpha * np.trace(inverse)
        residual = ((target - features @ mean) ** 2).sum()
        length = (mean**2).sum()
        alpha, beta = gamma / (length + 1e-5), (num - gamma) / (residual + 1e-5)
        if abs(alpha / beta - ratio) <= 1e-3 * ratio:
            break
    log_det = np.linalg.slogdet(alpha * np.eye(width) + beta * features.T @ features)[1]
    evidence = width * np.log(alpha) + num * np.log(beta) - log_det - beta * residual - alpha * length
    return (evidence - num * np.log(2 * np.pi)) / 2 / num, mean


def said_by(models: dict[str, Path], this: TrainingJob) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y' and m by direct computation."""
    labels = np.array(this.train.labels)
    evidence, said = [], []
    for name in ("one", "wide", "base"):
        features = Passing().through(models[name], this.train).double().numpy()
        found = [bayesian(features, (labels == label).astype(float)) for label in (0, 1)]
        means = np.stack([mean for _, mean in found])
        if name == "base":
            break
        evidence.append(np.mean([value for value, _ in found]))
        said.append(features @ means.T)
    share = torch.softmax(torch.tensor(evidence) / 0.1, dim=0).numpy()
    return torch.from_numpy(sum(s * each for s, each in zip(share, said, strict=True))), torch.from_numpy(means)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("tokens_at_once", [4096, 30])
def test_a_step_follows_the_papers_loss(models: dict[str, Path], tmp_path: Path, tokens_at_once: int) -> None:
    """One step of plain gradient descent over all examples moves the head by the gradient of L + λ mean (m F − y')²."""
    this = here(models, tmp_path)
    sgd = {"optim": "sgd", "max_steps": 1, "lr_scheduler_type": "constant", "max_grad_norm": 1e6, "warmup_steps": 0}
    chosen = taught(
        models, "b-tuning(strength=3)", batch_size=64, train_args=sgd, tokens_at_once=tokens_at_once, learning_rate=1e-2
    )
    outcome = fine_tune(this, chosen)
    assert isinstance(outcome, FineTuned)

    task = this.task
    loaded = task.load(this.base_dir, this.train, chosen)
    features = task.encode(loaded, this.train)
    task.start_head(loaded, features)
    loaded.model.train()
    output = loaded.model(**loaded.collate(features))
    said, own = said_by(models, this)
    far = output.features @ own.float().T - said.float()
    loss = cross_entropy(output.logits, torch.tensor(this.train.labels)) + 3 * far.square().sum() / far.numel()
    loss.backward()
    moved = {name: tensor for name, tensor in outcome.tensors.items() if tensor.is_floating_point()}
    before = loaded.model.body.state_dict()
    compared = 0
    for name, parameter in loaded.model.body.named_parameters():
        if name in moved and parameter.grad is not None:
            delta = (moved[name] - before[name]) / -1e-2
            torch.testing.assert_close(delta, parameter.grad, rtol=2e-3, atol=2e-4)
            compared += bool(parameter.grad.abs().max() > 1e-2)
    assert compared > 10
    plain = fine_tune(this, replace(chosen, objectives=()))
    assert tensors(plain) != tensors(outcome)


def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(models: dict[str, Path], tmp_path: Path) -> None:
    chosen = taught(models, "b-tuning + sam")
    whole = fine_tune(here(models, None), chosen)  # keeps nothing, asks the teachers itself
    checkpoint, progress = tmp_path / "run.safetensors", stop_after(EPOCH_STEPS + 3)
    again = here(models, tmp_path / "again")
    stopped = fine_tune(again, chosen, checkpoint=checkpoint, progress=progress[0], stop=progress[1])
    assert stopped == Stopped(step=EPOCH_STEPS + 3, num_steps=2 * EPOCH_STEPS)
    resumed = fine_tune(again, chosen, checkpoint=checkpoint)
    assert tensors(resumed) == tensors(whole)
    assert tensors(fine_tune(again, chosen, checkpoint=checkpoint)) == tensors(whole)  # finished, and read again


def test_a_killed_run_ends_in_the_same_bytes(models: dict[str, Path], tmp_path: Path) -> None:
    chosen = replace(SETTINGS, objectives=taught(models).objectives)
    checkpoint, folder = tmp_path / "run.safetensors", tmp_path / "kept"
    command = [sys.executable, training_process.__file__, str(models["base"]), str(checkpoint), str(folder), "full"]
    with subprocess.Popen([*command, *chosen.objectives], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        for line in victim.stdout:
            if line == "train 5\n":
                victim.send_signal(signal.SIGKILL)
                break
        assert victim.wait() == -signal.SIGKILL
    resumed = fine_tune(here(models, folder), chosen, checkpoint=checkpoint)
    assert isinstance(resumed, FineTuned)
    assert resumed.resumed_at_step in (4, 5)
    assert tensors(resumed) == tensors(fine_tune(here(models, tmp_path / "other"), chosen))


def test_teachers_are_asked_once_and_what_they_made_is_kept(models: dict[str, Path], tmp_path: Path) -> None:
    chosen = taught(models, num_epochs=1)
    first = tensors(fine_tune(here(models, tmp_path), chosen))
    kept = sorted((tmp_path / "teachers").iterdir())
    assert len(kept) == 2
    assert tensors(fine_tune(here(models, tmp_path), chosen)) == first
    kept[0].write_bytes(kept[0].read_bytes()[:-1] + b"x")  # damaged: computed again
    assert tensors(fine_tune(here(models, tmp_path), chosen)) == first
    size = FeatureCache(folder=tmp_path / "teachers").get(kept[0].stem, lambda: torch.zeros(1, 1)).shape
    kept[0].unlink()
    FeatureCache(folder=tmp_path / "teachers").get(kept[0].stem, lambda: torch.ones(size).cumsum(1))
    assert tensors(fine_tune(here(models, tmp_path), chosen)) != first  # so it is they that are learnt from


def test_a_node_stops_while_teachers_are_asked(models: dict[str, Path], tmp_path: Path) -> None:
    def stop() -> bool:  # once the first teacher is done
        return len(list((tmp_path / "teachers").glob("*.safetensors"))) > 0

    checkpoint = tmp_path / "run.safetensors"
    assert fine_tune(here(models, tmp_path), taught(models), checkpoint=checkpoint, stop=stop) == Stopped(
        step=0, num_steps=2 * EPOCH_STEPS
    )
    assert isinstance(fine_tune(here(models, tmp_path), taught(models), checkpoint=checkpoint), FineTuned)


@pytest.mark.parametrize("way", ["lora(rank=2)", "bias"])
def test_whatever_is_trained_may_be_taught(models: dict[str, Path], tmp_path: Path, way: str) -> None:
    far = {}
    for strength in (1e-6, 1000.0):
        chosen = taught(models, f"b-tuning(strength={strength})", way=way)
        outcome = fine_tune(here(models, tmp_path), chosen)
        assert isinstance(outcome, FineTuned)
        far[strength] = tensors(outcome)
    assert far[1e-6] != far[1000.0]


def test_numbers_are_taught_as_well(models: dict[str, Path], tmp_path: Path) -> None:
    this = here(models, tmp_path, task="regression")
    assert tensors(fine_tune(this, taught(models))) != tensors(fine_tune(this, replace(taught(models), objectives=())))


def test_another_teacher_is_another_run(models: dict[str, Path], tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "teacher", seed=8)
    first = lines_of_objectives(with_teachers([], [folder]))
    write_tiny_model(folder, seed=9)
    assert lines_of_objectives(with_teachers([], [folder])) != first
    with pytest.raises(UserInputError, match="a teacher is another than when training was asked for"):
        fine_tune(here(models, None), replace(BRIEF, objectives=first))
    assert lines_of_objectives(first) == first  # a line that is known by its digests stays as it is


def test_what_cannot_be_taught_is_said(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no teachers; name the folder of each with --teacher"):
        lines_of_objectives(["b-tuning"])
    with pytest.raises(UserInputError, match=r"nowhere: no such folder; expected a teacher's model"):
        lines_of_objectives(with_teachers([], [tmp_path / "nowhere"]))
    with pytest.raises(UserInputError, match="a teacher is named twice"):
        lines_of_objectives(with_teachers([], [models["one"], models["one"]]))
    (tmp_path / "a,b").mkdir()
    with pytest.raises(UserInputError, match="a,b: a teacher's path may have none of"):
        lines_of_objectives(with_teachers([], [tmp_path / "a,b"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match=r"empty: "):
        lines_of_objectives(with_teachers([], [tmp_path / "empty"]))
    same = replace(here(models, None), train=here(models, None).train.take([0, 2, 4, 6]))
    if len(set(same.train.labels)) > 1:
        same = replace(same, train=same.train.take([i for i, label in enumerate(same.train.labels) if label]))
    with pytest.raises(UserInputError, match="have one label: there is nothing that teachers could tell"):
        fine_tune(same, taught(models))
