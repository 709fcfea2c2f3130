"""Fine-tune the base on private data: the step of a round that happens at a contributor.

This is a loop of our own rather than the Hugging Face `Trainer`, because a node may be killed at any instruction and
must then arrive at the same bytes as if it had not been: all randomness comes from counters (`schedule`), a checkpoint
is one atomic file without pickles (`checkpoint`), and nothing else lives from one step to the next.

The private head starts as the linear probe of the unchanged base. A random head would first push noise through the
body, and that noise, unlike what the tasks have in common, would be fused.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from coldfuse.durable import OnDamage
from coldfuse.errors import UserInputError
from coldfuse.naming.building import quiet
from coldfuse.training.checkpoint import (
    Position,
    load_checkpoint,
    pack,
    run_identity,
    save_checkpoint,
    set_trained_tensors,
    trained_tensors,
    unpack,
)
from coldfuse.training.compute import pick_device, reproducible
from coldfuse.training.encoding import encode_all, tokenize
from coldfuse.training.failures import failures_of
from coldfuse.training.head import MAX_FITTING_EXAMPLES, LinearHead, fit_linear_probe
from coldfuse.training.intake import find_intake
from coldfuse.training.job import FineTuned, Stopped, TrainingJob, TrainingProgress, TrainingSettings
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import Classifier, shared_tensors
from coldfuse.training.schedule import derive_seed, epoch_batches, learning_rate_factor, split_batch

_LOG = logging.getLogger(__name__)


def fine_tune(
    job: TrainingJob,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    on_damage: OnDamage = _LOG.warning,
) -> FineTuned | Stopped:
    """Fine-tune body and head, keep the best epoch, and resume from `checkpoint` if it is of this very run.

    Killed at any instant and started again, a run on a CPU with the same number of threads ends in the same bytes. On a
    GPU that holds as far as its kernels are deterministic. The checkpoint stays when training is done, so that a node
    killed before it has stored the result need not train again: discard it then (`discard_checkpoint`).

    Args:
        job: What is trained on what.
        settings: How.
        checkpoint: The file to resume from and to save to; None keeps nothing.
        progress: Called at each step and each score.
        stop: Asked before each step; once it says True, the run saves itself and ends.
        on_damage: Told of a checkpoint that cannot be resumed from.

    Returns:
        What came of it, or how far it came before it was stopped.

    Raises:
        UserInputError: The base or the settings cannot be trained with, or the checkpoint cannot be written.
        SchemaMismatchError: The body's tensors are not the base's.
    """
    # A body may have tensors that the base's files lack: they are drawn at random when it is loaded.
    seed = derive_seed(settings.seed, "load")
    with quiet(), reproducible(seed=seed, device=settings.device, threads=settings.threads):
        run = _Run(job, settings, checkpoint, progress, on_damage)
        resumed_at_step = run.position.step
        while not run.position.finished:
            for batch in run.remaining_batches():
                if stop():
                    run.save()
                    return Stopped(step=run.position.step, num_steps=run.num_steps)
                run.train_on(batch)
                run.save_if_due()
            run.close_epoch()
        return run.result(resumed_at_step)


class _Run:
    """One training run in memory: examples, model, optimiser and position."""

    def __init__(
        self,
        job: TrainingJob,
        settings: TrainingSettings,
        checkpoint: Path | None,
        progress: Callable[[TrainingProgress], None],
        on_damage: OnDamage,
    ) -> None:
        self.job, self.settings, self.checkpoint, self.progress = job, settings, checkpoint, progress
        self.on_damage = on_damage
        self.device = pick_device(settings.device)
        self.epoch_steps = math.ceil(len(job.train) / settings.batch_size)
        self.num_steps = self.epoch_steps * settings.num_epochs
        body, tokenizer = load_body(job.base_dir).to(self.device), load_tokenizer(job.base_dir)
        intake = find_intake(body, tokenizer, max_length=settings.max_length, trains=True)
        self.texts = tokenize(tokenizer, job.train, intake)
        self.labels = torch.tensor(job.train.labels, device=self.device)
        self.validation_texts = tokenize(tokenizer, job.validation, intake)
        self.validation_labels = torch.tensor(job.validation.labels, device=self.device)
        self.best: dict[str, Tensor] = {}  # empty: the model's present weights are the best
        self.num_trained, self.began_s, self.saved_s = 0, time.monotonic(), time.monotonic()
        self._start_or_resume(body)

    def _start_or_resume(self, body: nn.Module) -> None:
        """Take model, optimiser and position from the checkpoint, or make them from the base."""
        self.identity = _identity(self.job, self.settings)
        saved = (
            load_checkpoint(self.checkpoint, identity=self.identity, on_damage=self.on_damage)
            if self.checkpoint
            else None
        )
        if saved is None:
            self._report("probe", step=0)
            head, accuracy = self._fit_head(body)
            self.position = Position(accuracy_before=accuracy)
        else:
            self.position, tensors = saved
            head = LinearHead(weight=tensors["model/head.weight"], bias=tensors["model/head.bias"]).to(self.device)
        self.model = Classifier(body, head, dropout=self.settings.dropout)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), weight_decay=self.settings.weight_decay, fused=self.device.type in ("cpu", "cuda")
        )
        if saved is not None:
            self.best = unpack(saved[1], self.model, self.optimizer)

    def _fit_head(self, body: nn.Module) -> tuple[LinearHead, float]:
        """Fit the linear probe of the unchanged base; return it with its validation accuracy."""
        generator = torch.Generator().manual_seed(derive_seed(self.settings.seed, "probe"))
        chosen = torch.randperm(len(self.texts), generator=generator)[:MAX_FITTING_EXAMPLES].tolist()
        features = encode_all(body, self.texts.take(chosen))
        head = fit_linear_probe(features, self.labels[chosen], num_classes=self.job.train.num_classes)
        features = encode_all(body, self.validation_texts)
        return head, head.accuracy(features, self.validation_labels)

    def remaining_batches(self) -> list[list[int]]:
        """Return the batches of the present epoch that are not done yet."""
        epoch, num_done = divmod(self.position.step, self.epoch_steps)
        if num_done == 0 and epoch > 0 and not self.best:  # this epoch will change the weights of the best one
            self.best = {name: tensor.clone() for name, tensor in trained_tensors(self.model).items()}
        seed = derive_seed(self.settings.seed, "order", self.job.round, epoch)
        return epoch_batches(self.texts.lengths, batch_size=self.settings.batch_size, seed=seed)[num_done:]

    def train_on(self, indices: list[int]) -> None:
        """Take one optimiser step on the examples at `indices`."""
        step, settings = self.position.step, self.settings
        torch.manual_seed(derive_seed(settings.seed, "dropout", self.job.round, step))
        factor = learning_rate_factor(step, num_steps=self.num_steps, warmup_fraction=settings.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        self.model.train()
        mean_loss = 0.0
        for micro_batch in split_batch(self.texts.lengths, indices, tokens_at_once=settings.tokens_at_once):
            logits = self.model(self.texts.batch(micro_batch, self.device))
            loss = cross_entropy(logits, self.labels[micro_batch], reduction="sum") / len(indices)
            with failures_of(self.model.body, f"training on {len(micro_batch)} texts"):
                loss.backward()  # type: ignore[no-untyped-call]
            mean_loss += loss.item()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.max_gradient_norm)
        if not norm.isfinite():
            raise UserInputError(
                f"training diverged at step {step + 1}: the gradient's norm is {norm.item()}; choose a learning rate "
                f"below {settings.learning_rate}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.position = dataclasses.replace(self.position, step=step + 1)
        self.num_trained += len(indices)
        self._report("train", step=step + 1, loss=mean_loss)

    def close_epoch(self) -> None:
        """Score the epoch, note whether it is the best and whether it was the last, and write the checkpoint."""
        epoch = self.position.step // self.epoch_steps
        features = encode_all(self.model.body, self.validation_texts)
        accuracy = self.model.linear_head().accuracy(features, self.validation_labels)
        if self.position.accuracy_best is None or accuracy > self.position.accuracy_best:
            self.best = {}
            self.position = dataclasses.replace(self.position, accuracy_best=accuracy, best_epoch=epoch)
        if epoch == self.settings.num_epochs or epoch - self.position.best_epoch >= self.settings.patience:
            self.position = dataclasses.replace(self.position, finished=True)
            set_trained_tensors(self.model, self.best)
            self.best = {}
            self.optimizer.state.clear()  # only the weights are needed from here on
        self.save()
        self._report("score", step=self.position.step, accuracy=accuracy)

    def save_if_due(self) -> None:
        """Write the checkpoint in the middle of an epoch when the last one is old."""
        mid_epoch = self.position.step % self.epoch_steps != 0  # at the end it is written once the epoch is scored
        if mid_epoch and time.monotonic() - self.saved_s >= self.settings.checkpoint_every_s:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, where one is wanted."""
        if self.checkpoint is None:
            return
        tensors = pack(self.model, self.optimizer, self.best)
        save_checkpoint(self.checkpoint, identity=self.identity, position=self.position, tensors=tensors)
        self.saved_s = time.monotonic()

    def result(self, resumed_at_step: int) -> FineTuned:
        """Return the outcome of the finished run."""
        position = self.position
        body = self.model.body.cpu()
        return FineTuned(
            tensors=shared_tensors(body, self.job.schema_names),
            head=self.model.linear_head().to(torch.device("cpu")),
            num_examples=len(self.job.train),
            num_steps=position.step,
            num_epochs=position.step // self.epoch_steps,
            best_epoch=position.best_epoch,
            accuracy_before=position.accuracy_before,
            accuracy_after=position.accuracy_best or 0.0,  # a finished run has scored an epoch
            resumed_at_step=resumed_at_step,
        )

    def _report(self, phase: str, *, step: int, loss: float | None = None, accuracy: float | None = None) -> None:
        """Hand one moment of the run to the progress callback."""
        elapsed_s = time.monotonic() - self.began_s
        event = TrainingProgress(
            phase=phase,
            epoch=math.ceil(step / self.epoch_steps),
            step=step,
            num_steps=self.num_steps,
            loss=loss,
            accuracy=accuracy,
            examples_per_s=self.num_trained / elapsed_s if self.num_trained else None,
        )
        self.progress(event)


def _identity(job: TrainingJob, settings: TrainingSettings) -> str:
    """Return the digest of all that decides the outcome."""
    return run_identity(
        {
            "base": job.base_digest,
            "round": job.round,
            "train": job.train.digest(),
            "validation": job.validation.digest(),
            "settings": settings.decisive(),
        }
    )
