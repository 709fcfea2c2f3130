"""Training on a tiny random BERT: it learns, and whatever interrupts it, it arrives at the same bytes."""

import json
import math
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from integration import training_process
from integration.training_process import SETTINGS, job, reviews
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model
from torch import nn

from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.evaluation.probe import ProbeScorer, linear_probe
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.checkpoint import discard_checkpoint, pack, saved_part, set_trained_tensors, unpack
from coldfuse.training.delta import write_finetuned
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, Stopped, TrainingProgress
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import shared_tensors
from coldfuse.training.tasks.text_classification import TextClassification

EPOCH_STEPS = 8


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def uninterrupted(base_dir: Path) -> FineTuned:
    return finished(fine_tune(job(base_dir), SETTINGS))


def finished(outcome: FineTuned | Stopped) -> FineTuned:
    assert isinstance(outcome, FineTuned)
    return outcome


def assert_same_bytes(left: FineTuned, right: FineTuned) -> None:
    assert left.tensors.keys() == right.tensors.keys()
    assert [name for name, tensor in left.tensors.items() if not torch.equal(tensor, right.tensors[name])] == []
    assert torch.equal(left.private.tensors["head.weight"], right.private.tensors["head.weight"])
    assert (left.score_before, left.score_after) == (right.score_before, right.score_after)


def test_training_learns_the_task_and_moves_the_shared_body(base_dir, uninterrupted):
    base = shared_tensors(load_body(base_dir), job(base_dir).schema_names)
    moved = [name for name, tensor in uninterrupted.tensors.items() if not torch.equal(tensor, base[name])]
    assert uninterrupted.tensors.keys() == base.keys()
    assert len(moved) > len(base) / 2
    assert "pooler.dense.weight" not in moved  # the loss does not reach it
    assert all(tensor.dtype == torch.float32 for tensor in uninterrupted.tensors.values())
    assert uninterrupted.score_after == 1.0
    assert uninterrupted.num_examples == 64


def test_the_same_run_gives_the_same_bytes_and_another_seed_does_not(base_dir, uninterrupted):
    again = finished(fine_tune(job(base_dir), SETTINGS))
    other = finished(fine_tune(job(base_dir), replace(SETTINGS, seed=6)))
    next_round = finished(fine_tune(job(base_dir, number=2), SETTINGS))
    assert_same_bytes(again, uninterrupted)
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(other.tensors[name], uninterrupted.tensors[name])
    assert not torch.equal(next_round.tensors[name], uninterrupted.tensors[name])


@pytest.mark.parametrize(
    ("task", "kill_after"),
    [("text-classification", 3), ("text-classification", EPOCH_STEPS + 1), ("regression", EPOCH_STEPS + 3)],
)
def test_a_killed_run_resumes_and_ends_in_the_same_bytes(base_dir, uninterrupted, tmp_path, task, kill_after):
    this = job(base_dir, task=task)
    if task != "text-classification":
        uninterrupted = finished(fine_tune(this, SETTINGS))
    checkpoint = tmp_path / "run.safetensors"
    command = [sys.executable, training_process.__file__, str(base_dir), str(checkpoint), f"task={task}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        for line in victim.stdout:
            if line == f"train {kill_after}\n":
                victim.send_signal(signal.SIGKILL)
                break
        assert victim.wait() == -signal.SIGKILL

    steps: list[int] = []
    resumed = finished(fine_tune(this, SETTINGS, checkpoint=checkpoint, progress=steps_into(steps)))

    assert 0 < kill_after - 1 <= resumed.resumed_at_step <= kill_after
    assert steps == list(range(resumed.resumed_at_step + 1, resumed.num_steps + 1))
    assert_same_bytes(resumed, uninterrupted)


@pytest.mark.parametrize(
    "settings",
    [
        {"train_args": {"optim": "adafactor", "lr_scheduler_type": "cosine", "gradient_accumulation_steps": 2}},
        {"train_args": {"gradient_checkpointing": True, "per_device_train_batch_size": 4, "optim": "sgd"}},
        {"way": "lora(r=2)", "objectives": ("fedprox(mu=0.01)",)},
        {"objectives": ("layer-decay(decay=0.8)", "sam(rho=0.05)", "wise-ft")},
    ],
    ids=["adafactor", "checkpointing", "lora", "objectives"],
)
def test_however_it_trains_a_stopped_run_ends_in_the_same_bytes(base_dir, tmp_path, settings):
    brief = replace(SETTINGS, num_epochs=2, **settings)
    if "lora" in settings.get("way", ""):
        brief = replace(brief, objectives=())
    whole, steps = finished(fine_tune(job(base_dir), brief)), []
    calm = replace(brief, checkpoint_every_s=1e6)
    stopped = fine_tune(
        job(base_dir), calm, checkpoint=tmp_path / "run", progress=steps_into(steps), stop=lambda: len(steps) == 3
    )
    assert isinstance(stopped, Stopped)
    resumed = finished(fine_tune(job(base_dir), calm, checkpoint=tmp_path / "run"))
    assert resumed.resumed_at_step == 3
    assert delta_of(resumed, base_dir, tmp_path / "resumed") == delta_of(whole, base_dir, tmp_path / "whole")
    assert resumed.private.digest() == whole.private.digest()


def test_a_run_that_is_asked_to_stop_while_its_head_is_fitted_stops_at_the_next_pass(base_dir):
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    made = fine_tune(job(base_dir), SETTINGS, stop=stop)
    assert isinstance(made, Stopped)
    assert (made.step, len(asked)) == (0, 3)


def delta_of(made: FineTuned, base_dir: Path, path: Path) -> bytes:
    write_finetuned(
        path, open_checkpoint(base_dir), made, encoding="F32", base_digest="0" * 64, masks=path.parent / "masks"
    )
    return path.read_bytes()


def test_the_head_of_the_last_round_is_the_start_where_it_scores_better(base_dir, uninterrupted):
    brief = replace(SETTINGS, num_epochs=1)
    poor = replace(job(base_dir), train=job(base_dir).train.take([0, 1]))  # a probe of two texts knows little
    alone = finished(fine_tune(poor, brief))
    with_kept = finished(fine_tune(replace(poor, kept=uninterrupted.private), brief))
    assert with_kept.score_before > alone.score_before
    worthless = replace(
        uninterrupted.private, tensors={n: torch.zeros_like(t) for n, t in uninterrupted.private.tensors.items()}
    )
    with_worthless = finished(fine_tune(replace(job(base_dir), kept=worthless), brief))
    assert_same_bytes(with_worthless, finished(fine_tune(job(base_dir), brief)))


def test_the_head_of_another_task_or_of_other_labels_is_no_start(base_dir, uninterrupted):
    own, notes = uninterrupted.private, uninterrupted.private.notes
    assert own.fits(own.tensors, task="text-classification", notes=notes)
    assert not own.fits(own.tensors, task="regression", notes=notes)
    assert not own.fits(own.tensors, task="text-classification", notes={"labels": '["negative", "other"]'})
    assert not own.fits({"head.bias": own.tensors["head.bias"]}, task="text-classification", notes=notes)


def test_what_learns_the_opposite_of_its_validation_does_not_beat_its_base(base_dir, uninterrupted):
    assert uninterrupted.beats_base
    this = job(base_dir)
    flipped = replace(this.validation, labels=tuple(1 - label for label in this.validation.labels))
    made = finished(fine_tune(replace(this, validation=flipped), replace(SETTINGS, num_epochs=1)))
    assert not made.beats_base
    assert made.loss_after > made.loss_before


def test_what_the_trainer_reports_to_is_said_in_words_where_it_is_not_there(base_dir):
    with pytest.raises(UserInputError, match=r"^(the Trainer failed|training arguments): .*nowhere") as found:
        fine_tune(job(base_dir), replace(SETTINGS, train_args={"report_to": "nowhere"}))
    assert "\n" not in str(found.value)


def test_losses_go_to_the_tracker_that_was_asked_for(base_dir, tmp_path):
    told = replace(SETTINGS, num_epochs=1, train_args={"report_to": ["tensorboard"], "logging_steps": 4})
    fine_tune(replace(job(base_dir), folder=tmp_path), told)
    [log] = (tmp_path / "reports").rglob("events.out.tfevents.*")
    assert b"train/loss" in log.read_bytes()
    assert b"eval/accuracy" in log.read_bytes()


def steps_into(steps: list[int]):
    def note(event: TrainingProgress) -> None:
        if event.phase == "train":
            steps.append(event.step)

    return note


def test_a_stopped_run_says_how_far_it_came_and_goes_on_from_there(base_dir, uninterrupted, tmp_path):
    checkpoint, steps = tmp_path / "run.safetensors", []
    calm = replace(SETTINGS, checkpoint_every_s=1e6)
    stopped = fine_tune(
        job(base_dir), calm, checkpoint=checkpoint, progress=steps_into(steps), stop=lambda: len(steps) == 5
    )
    assert stopped == Stopped(step=5, num_steps=3 * EPOCH_STEPS)
    resumed = finished(fine_tune(job(base_dir), calm, checkpoint=checkpoint))
    assert resumed.resumed_at_step == 5
    assert_same_bytes(resumed, uninterrupted)


def test_a_finished_run_is_not_trained_again(base_dir, uninterrupted, tmp_path):
    checkpoint, steps = tmp_path / "run.safetensors", []
    fine_tune(job(base_dir), SETTINGS, checkpoint=checkpoint)
    again = finished(fine_tune(job(base_dir), SETTINGS, checkpoint=checkpoint, progress=steps_into(steps)))
    assert steps == []
    assert_same_bytes(again, uninterrupted)
    discard_checkpoint(checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_run_is_ignored(base_dir, tmp_path):
    mine, brief = tmp_path / "mine.safetensors", replace(SETTINGS, num_epochs=1)
    this = job(base_dir)
    assert isinstance(fine_tune(this, brief, checkpoint=mine), FineTuned)
    for number, (other, settings) in enumerate(
        [
            (replace(this, base_digest="1" * 64), brief),
            (replace(this, round=2), brief),
            (replace(this, train=this.train.take(range(63))), brief),
            (this, replace(brief, learning_rate=1e-3)),
        ]
    ):
        checkpoint = shutil.copy(mine, tmp_path / str(number))
        stopped = fine_tune(other, settings, checkpoint=checkpoint, stop=lambda: True)
        assert stopped == Stopped(step=0, num_steps=EPOCH_STEPS)


def test_training_stops_early_and_returns_the_best_epoch(base_dir):
    steps: list[int] = []
    impatient = replace(SETTINGS, num_epochs=50, patience=1)
    outcome = finished(fine_tune(job(base_dir), impatient, progress=steps_into(steps)))
    assert outcome.num_epochs == outcome.best_epoch + 1
    assert outcome.num_steps == len(steps) == outcome.num_epochs * EPOCH_STEPS


def test_a_score_that_is_no_number_is_never_the_best(base_dir):
    class Scripted(TextClassification):
        scores = iter([0.5, math.nan, 0.9, 0.7])  # of the start, and of each epoch

        def score(self, loaded, examples, features):
            return next(self.scores)

    made = finished(fine_tune(replace(job(base_dir), task=Scripted()), SETTINGS))
    assert (made.best_epoch, made.score_after, made.beats_base) == (2, 0.9, True)


def test_a_batch_in_parts_gives_the_same_model_up_to_rounding(base_dir):
    still = replace(SETTINGS, num_epochs=1, dropout=0.0)
    whole = finished(fine_tune(job(base_dir), still))
    parts = finished(fine_tune(job(base_dir), replace(still, tokens_at_once=20)))
    assert parts.score_after == pytest.approx(whole.score_after, abs=0.2)  # the body's dropout differs


def test_training_leaves_the_random_state_and_threads_of_the_process_alone(base_dir):
    torch.manual_seed(1)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    others = random.getstate(), np.random.get_state()[1].tolist()
    fine_tune(job(base_dir), replace(SETTINGS, num_epochs=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_broken_base_is_said_in_words(base_dir, tmp_path):
    broken = shutil.copytree(base_dir, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"] *= 1e38  # finite, and infinite after the product
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserInputError, match="features that are not finite"):
        fine_tune(job(broken), SETTINGS)


def test_divergence_is_said_in_words(base_dir, monkeypatch):
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *_, **__: torch.tensor(float("inf"))
    )  # too tiny to overflow
    with pytest.raises(UserInputError, match=r"diverged at step 1: .* choose a learning rate below"):
        fine_tune(job(base_dir), SETTINGS)


def test_the_probe_of_a_model_folder_is_the_same_each_time(base_dir):
    train, test = reviews(64), reviews(40)
    result, again = (linear_probe(base_dir, train, test, max_length=32, batch_size=16, threads=1) for _ in range(2))
    assert result == again
    assert (result.num_train, result.num_test) == (64, 40)
    assert result.accuracy > 0.9
    scorer = ProbeScorer(tasks=[(train, test), (train, train)], max_length=32, threads=1)
    assert result.accuracy / 2 + 0.45 < scorer(base_dir) <= 1


def test_a_torn_model_file_is_said_in_words(base_dir, tmp_path):
    torn = shutil.copytree(base_dir, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ColdfuseError, match="the header describes"):
        load_body(torn)


def test_a_tokenizer_without_padding_pads_with_another_token(base_dir, tmp_path):
    folder = shutil.copytree(base_dir, tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "[SEP]"}))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token == "[SEP]"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(folder).pad_token == "[UNK]"  # it is masked, so any token will do


def test_unpack_undoes_pack():
    def run():
        model = nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters())

    model, optimizer = run()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors, numbers = pack(model, optimizer, {"weight": torch.ones(2, 3)})
    packed = {name: tensor.clone() for name, tensor in tensors.items()}
    assert torch.equal(saved_part(packed, "best")["weight"], torch.ones(2, 3))
    other_model, other_optimizer = run()
    set_trained_tensors(other_model, saved_part(packed, "model"))
    unpack(packed, numbers, other_model, other_optimizer)
    repacked, _ = pack(other_model, other_optimizer, saved_part(packed, "best"))
    assert repacked.keys() == packed.keys()
    assert all(torch.equal(repacked[name], packed[name]) for name in packed)
