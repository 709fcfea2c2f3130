"""One training run in memory: a task's model and features, the Trainer, and the position that is saved."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coldfuse.durable import OnDamage
from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change
from coldfuse.training.checkpoint import (
    Position,
    load_checkpoint,
    pack,
    save_checkpoint,
    saved_part,
    set_trained_tensors,
    unpack,
)
from coldfuse.training.classifying import learnt_texts
from coldfuse.training.compute import native_autocast, pick_device
from coldfuse.training.failures import failures_of_the_trainer
from coldfuse.training.head import MAX_FITTING_EXAMPLES
from coldfuse.training.identity import identities
from coldfuse.training.job import FineTuned, ReadBase, Stopped, TrainingJob, TrainingProgress, TrainingSettings
from coldfuse.training.model import private_tensors, shared_tensors, stored_names_in
from coldfuse.training.objectives import Beginning, Terms, begin_terms
from coldfuse.training.private import PrivatePart
from coldfuse.training.schedule import derive_seed
from coldfuse.training.scoring import beats, is_better, mean_loss, single_examples, take_features
from coldfuse.training.sharing.way import ModuleWay
from coldfuse.training.stopping import stoppable
from coldfuse.training.tasks import describe_task
from coldfuse.training.trainer import NodeTrainer, Resumed, Steps
from coldfuse.training.trainer_arguments import Length, make_arguments
from coldfuse.training.ways import Base, Preparation, moving_tensors, parse_way
from coldfuse.training.ways.way import shared_parameters


class Run:
    """One training run.

    Args:
        job: What is trained on what.
        settings: How.
        checkpoint: The file to resume from and to save to; None keeps nothing.
        progress: Called at each step and each score.
        stop: Asked before each step.
        on_damage: Told of a checkpoint that cannot be resumed from.
    """

    def __init__(
        self,
        job: TrainingJob,
        settings: TrainingSettings,
        *,
        checkpoint: Path | None,
        progress: Callable[[TrainingProgress], None],
        stop: Callable[[], bool],
        on_damage: OnDamage,
    ) -> None:
        self.job, self.settings, self.checkpoint = job, settings, checkpoint
        self.progress, self.stop, self.on_damage = progress, stop, on_damage
        self.task, self.line = job.task, describe_task(job.task)
        self.way = ModuleWay(folder=job.module_dir) if job.module_dir else parse_way(settings.way)
        self.device = pick_device(settings.device)
        self.loaded = self.task.load(job.base_dir, job.train, settings)
        self.loaded.model.to(self.device)
        self.features = self.task.encode(self.loaded, job.train)
        self.validation = self.task.encode(self.loaded, job.validation)
        self.private = private_tensors(self.loaded.model, self.loaded.shared_part, job.schema_names)
        self.start: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}  # empty: the model's present weights are the best
        self.num_trained, self.began_s, self.saved_s = 0, time.monotonic(), time.monotonic()
        self.is_stopped = False

    def go(self, scratch: Path) -> FineTuned | Stopped:
        """Train, or go on with it, and say what came of it."""
        kept = self.job.folder if "report_to" in self.settings.train_args else None
        arguments = make_arguments(self.settings, kept / "reports" if kept else scratch)
        self.length = Length.of(len(self.features), arguments)
        if self.job.module_dir:  # what the start is scored with
            self._prepare()
        with stoppable(self.loaded.shared_part, self.stop):
            saved = self._start_or_load()
        if not self.job.module_dir:
            self._prepare()
        self.terms = self._begin_terms(*saved or (None, None))
        resumed = self._resume(*saved) if saved else None
        if self.position.finished:
            return self._result(self.position.step)
        with failures_of_the_trainer():
            self.trainer = NodeTrainer(
                self.loaded, self.features, settings=self.settings, arguments=arguments, round=self.job.round,
                terms=self.terms,
            )  # fmt: skip
            self.trainer.add_callback(Steps(self))
            if self.stop():
                self.save()
                return self._stopped()
            if resumed is None:
                self.trainer.train()
            else:
                self.trainer.resume(resumed, scratch)
        return self._stopped() if self.is_stopped else self._result(resumed.step if resumed else 0)

    def _start_or_load(self) -> tuple[Position, dict[str, Tensor]] | None:
        """Give the private tensors their start, and return what the checkpoint holds, where there is one."""
        self.identity, older = identities(self.job, self.settings, self.line)
        saved = (
            load_checkpoint(self.checkpoint, identity=self.identity, older=older, on_damage=self.on_damage)
            if self.checkpoint
            else None
        )
        if saved is not None:  # what a way prepares may depend on it
            self._set_private(saved_part(saved[1], "start") or saved_part(saved[1], "model"))
        else:
            self._report("probe", step=0)
            self.position = self._start()
        self.start = {name: tensor.clone() for name, tensor in self.private.items()}
        return saved

    def _prepare(self) -> None:
        """Freeze and wrap the model as the way of training wants it."""
        names = stored_names_in(self.loaded.model, self.loaded.shared_part, self.job.schema_names)
        self.shared = shared_parameters(self.loaded.model, names)
        preparation = Preparation(
            seed=self.settings.seed, round=self.job.round, task=self.line, examples=self._single_examples,
            folder=self.job.folder,
        )  # fmt: skip
        self.loaded.model = self.way.prepare(self.loaded.model, names, preparation).to(self.device)

    def _begin_terms(self, position: Position | None, saved: Mapping[str, Tensor] | None) -> Terms:
        """Have the objective's terms look at the model while it has the base's weights; none once training is over."""
        lines = () if position is not None and position.finished else self.settings.objectives
        own = {id(parameter) for parameter in self.shared.values()}
        beginning = Beginning(
            model=self.loaded.model, round=self.job.round, examples=self._single_examples, folder=self.job.folder,
            shared={n: p for n, p in self.loaded.model.named_parameters() if p.requires_grad and id(p) in own},
            learnt=learnt_texts(self.loaded, self.job.train, self.features, settings=self.settings, stop=self.stop),
        )  # fmt: skip
        is_scaled = bool(self.settings.train_args.get("fp16"))
        return begin_terms(lines, beginning, is_scaled=is_scaled, saved=saved_part(saved, "terms") if saved else None)

    def _single_examples(self, count: int) -> Iterator[dict[str, Tensor]]:
        seed = derive_seed(self.settings.seed, "examples", self.job.round)
        return single_examples(self.loaded, self.features, count, seed=seed)

    def _resume(self, position: Position, tensors: dict[str, Tensor]) -> Resumed:
        """Take model and position from the checkpoint."""
        self.position, model, saved = position, self.loaded.model, saved_part(tensors, "model")
        own = moving_tensors(model)
        if {name: t.shape for name, t in saved.items()} != {name: t.shape for name, t in own.items()}:
            raise UserInputError(
                f"{self.checkpoint}: holds other tensors than what is trained now: a library, or the mask, is another "
                "than when it was written; remove it to train anew"
            )
        set_trained_tensors(model, saved)
        self.best = {name: value.to(own[name].device) for name, value in saved_part(tensors, "best").items()}

        def restore(optimizer: torch.optim.Optimizer) -> None:
            unpack(tensors, position.numbers, model, optimizer)

        return Resumed(step=position.step, restore=restore, schedule=position.schedule)

    def _start(self) -> Position:
        """Give the private tensors their start: new, or as an earlier round left them, whichever scores better."""
        generator = torch.Generator().manual_seed(derive_seed(self.settings.seed, "probe"))
        chosen = torch.randperm(len(self.features), generator=generator)[:MAX_FITTING_EXAMPLES].tolist()
        with native_autocast(self.device):  # a base may lack a part of the head that otherwise travels
            self.task.start_head(self.loaded, take_features(self.features, chosen))
        score, kept = self._score(), self.job.kept
        if kept is not None and kept.fits(self.private, task=self.line, notes=self.loaded.notes):
            new = {name: tensor.clone() for name, tensor in self.private.items()}
            self._set_private(kept.tensors)
            if self._is_better(with_kept := self._score(), score):
                score = with_kept
            else:
                self._set_private(new)
        return Position(score_before=score, loss_before=self._loss())

    def _set_private(self, values: Any) -> None:
        with torch.no_grad():
            for name, tensor in self.private.items():
                tensor.copy_(values[name])

    def _score(self) -> float:
        self.loaded.model.eval()
        with torch.no_grad(), native_autocast(self.device):
            return float(self.task.score(self.loaded, self.job.validation, self.validation))

    def _loss(self) -> float:
        return mean_loss(self.loaded, self.validation, tokens_at_once=self.settings.tokens_at_once)

    def _is_better(self, score: float, than: float) -> bool:
        return is_better(score, than, higher=self.task.higher_is_better)

    def begin_epoch(self) -> None:
        """Set the best weights aside, which this epoch will change."""
        if self.position.step > 0 and not self.best and self.position.step % self.length.epoch_steps == 0:
            self.best = {name: tensor.clone() for name, tensor in moving_tensors(self.loaded.model).items()}

    def close_step(self, step: int) -> bool:
        """Note a step that is done, save it where that is due; True where the run is to end here."""
        self.terms.after_step()
        self.position = dataclasses.replace(self.position, step=step)
        self.num_trained += self.length.step_examples
        self._report("train", step=step, loss=self.trainer.last_loss)
        if step % self.length.epoch_steps == 0 or step >= self.length.num_steps:
            return False  # saved once the epoch is scored
        if self.stop():
            self.save()
            self.is_stopped = True
        elif time.monotonic() - self.saved_s >= self.settings.checkpoint_every_s:
            self.save()
        return self.is_stopped

    def close_epoch(self) -> bool:
        """Score the epoch, note whether it is the best, and write the checkpoint; True where training is over."""
        trainer, epoch = self.trainer, math.ceil(self.position.step / self.length.epoch_steps)
        score = self._score()
        if self.position.score_best is None or self._is_better(score, self.position.score_best):
            self.best = {}
            self.position = dataclasses.replace(self.position, score_best=score, best_epoch=epoch)
        is_last = self.position.step >= self.length.num_steps
        if is_last or epoch - self.position.best_epoch >= self.settings.patience:
            self._finish()
        self.save()
        self._report("score", step=self.position.step, score=score)
        trainer.log({f"eval_{self.task.metric.replace(' ', '_').lower()}": score})
        if not self.position.finished and self.stop():
            self.is_stopped = True
        return self.position.finished or self.is_stopped

    def _finish(self) -> None:
        set_trained_tensors(self.loaded.model, self.best)
        self.best = {}
        score = self.terms.finish(self._score, self._is_better)
        if score is not None:
            self.position = dataclasses.replace(self.position, score_best=score)
        self.position = dataclasses.replace(self.position, finished=True, loss_after=self._loss())

    def save(self) -> None:
        """Write the checkpoint, where one is wanted."""
        if self.checkpoint is None:
            return
        optimizer, scheduler = self.trainer.optimizer, self.trainer.lr_scheduler
        if self.position.finished:  # only the weights are needed from here on
            optimizer = scheduler = None
        tensors, numbers = pack(self.loaded.model, optimizer, self.best)
        if not self.position.finished:
            tensors |= {f"terms/{name}": tensor for name, tensor in self.terms.tensors().items()}
        tensors |= {f"start/{name}": tensor for name, tensor in self.start.items()}
        schedule = None if scheduler is None else scheduler.state_dict()
        self.position = dataclasses.replace(self.position, numbers=numbers, schedule=schedule)
        save_checkpoint(self.checkpoint, identity=self.identity, position=self.position, tensors=tensors)
        self.saved_s = time.monotonic()

    def _stopped(self) -> Stopped:
        return Stopped(step=self.position.step, num_steps=self.length.num_steps)

    def _result(self, resumed_at_step: int) -> FineTuned:
        position = self.position
        before, after = position.score_before, position.score_best or 0.0  # a finished run has scored an epoch
        losses = [math.inf if loss is None else loss for loss in (position.loss_before, position.loss_after)]
        self.loaded.model.cpu()
        return FineTuned(
            shared=lambda: self.way.finetuned(self.loaded.model, lambda _: self._shared()), changes=self._changes,
            trained=self.way.kind,
            private=PrivatePart(
                task=self.line, tensors={name: tensor.cpu() for name, tensor in self.private.items()},
                notes=self.loaded.notes,
            ),
            num_examples=len(self.job.train), num_steps=position.step,
            num_epochs=math.ceil(position.step / self.length.epoch_steps), best_epoch=position.best_epoch,
            score_before=before, score_after=after, loss_before=losses[0], loss_after=losses[1],
            beats_base=beats(after, before, (position.loss_before, losses[1]), higher=self.task.higher_is_better),
            resumed_at_step=resumed_at_step,
        )  # fmt: skip

    def _shared(self) -> dict[str, Tensor]:
        return shared_tensors(self.loaded.shared_part, self.job.schema_names)

    def _changes(self, floats: ReadBase) -> Mapping[str, Change]:
        return self.way.changes(self.loaded.model, Base(tensors=lambda _: self._shared(), floats=floats))

    def _report(self, phase: str, *, step: int, loss: float | None = None, score: float | None = None) -> None:
        """Hand one moment of the run to the progress callback."""
        elapsed_s = time.monotonic() - self.began_s
        self.progress(TrainingProgress(
            phase=phase, epoch=math.ceil(step / self.length.epoch_steps), step=step, num_steps=self.length.num_steps,
            loss=loss, score=score, examples_per_s=self.num_trained / elapsed_s if self.num_trained else None,
        ))  # fmt: skip
