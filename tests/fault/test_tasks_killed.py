"""Training is killed at a step, for every kind of task: started again, it ends in the same bytes."""

import multiprocessing
import signal

import pytest
import torch
from fault import task_process
from fault.task_process import SETTINGS, job_of
from tiny_pictures import write_clip, write_seeing_model
from tiny_texts import write_text_model

from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned
from coldfuse.training.tasks import TASKS

KILLED_AT = 5  # in the second epoch
CASES = {
    "token-classification": "bert",
    "question-answering": "roberta",
    "fill-mask": "headless bert",
    "text-generation": "gpt2",
    "instructions": "llama",
    "text2text-generation(private_head=yes)": "t5",
    "multi-label-classification": "headless bert",
    "regression": "roberta",
    "image-classification": "ViTForImageClassification",
    "contrastive-image-text": "clip",
    "edit": "gpt2",
}


@pytest.fixture(scope="module")
def processes():
    """Makes processes out of one that has imported everything, and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([task_process.__name__])
    return context


def write_base(folder, kind):
    if kind == "clip":
        return write_clip(folder)
    return write_seeing_model(folder, kind) if kind.startswith("ViT") else write_text_model(folder, kind)


def test_every_task_but_text_classification_is_killed_here():
    assert {line.partition("(")[0] for line in CASES} == TASKS.keys() - {"text-classification"}


def finished(outcome):
    assert isinstance(outcome, FineTuned)
    return outcome


@pytest.mark.parametrize(("line", "kind"), CASES.items(), ids=CASES)
def test_killed_in_training_every_task_goes_on_to_the_same_bytes(tmp_path, processes, line, kind):
    base = write_base(tmp_path / "base", kind)
    uninterrupted = finished(fine_tune(job_of(base, line), SETTINGS))
    checkpoint = tmp_path / "run.safetensors"

    steps, theirs = processes.Pipe()
    victim = processes.Process(target=task_process.train, args=(base, line, checkpoint, theirs))
    victim.start()
    theirs.close()
    while (step := steps.recv()) < KILLED_AT:
        steps.send("go on")
    victim.kill()
    victim.join()
    assert (step, victim.exitcode) == (KILLED_AT, -signal.SIGKILL)

    resumed = finished(fine_tune(job_of(base, line), SETTINGS, checkpoint=checkpoint))
    assert resumed.resumed_at_step == KILLED_AT - 1  # the step under way was not saved yet
    assert_same_bytes(resumed.shared(), uninterrupted.shared())
    assert_same_bytes(resumed.private.tensors, uninterrupted.private.tensors)
    assert (resumed.score_before, resumed.score_after) == (uninterrupted.score_before, uninterrupted.score_after)


def assert_same_bytes(left, right):
    assert left.keys() == right.keys()
    assert [name for name, tensor in left.items() if not torch.equal(tensor, right[name])] == []
