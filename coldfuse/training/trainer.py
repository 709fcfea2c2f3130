"""The Trainer of transformers, as a node needs it.

Everything random comes from counters (`schedule`), so that a run that was killed needs no random state to go on; a
batch is split by its tokens; losses are weighed by their targets, however a step was split; and the Trainer's own
checkpoints (folders of pickles) are never written: `fine_tuning` has one sealed file instead, and hands it back here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerState

from coldfuse.errors import UserInputError
from coldfuse.training.failures import failures_of
from coldfuse.training.objectives import Terms
from coldfuse.training.objectives.rows import ROWS, stacked_rows
from coldfuse.training.schedule import derive_seed, epoch_batches, learning_rate_factor, split_batch
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.task import Feature, TaskModel
from coldfuse.training.trainer_arguments import Length, NodeArguments
from coldfuse.training.ways.masked import masked_parameters

STATE_FILE = "trainer_state.json"
"""What the Trainer looks for where it resumes."""


@dataclass
class EpochBatches(Sampler[list[int]]):
    """The batches of an epoch, which are the same whenever they are asked for."""

    lengths: Sequence[int]
    batch_size: int
    seed_of: Callable[[int], int]
    epoch: int = 0
    drop_last: bool = field(default=False, init=False)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch."""
        return iter(epoch_batches(self.lengths, batch_size=self.batch_size, seed=self.seed_of(self.epoch)))


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Makes the parts of a batch that pass through the model one after the other."""

    loaded: TaskModel
    tokens_at_once: int

    def __call__(self, features: Sequence[Feature]) -> dict[str, Any]:
        """Return the parts, and how many targets each has."""
        lengths = [int(feature["length"]) for feature in features]  # type: ignore[call-overload]
        everything = range(len(features))
        at_once = self.tokens_at_once if self.loaded.is_divisible else 1 << 62
        indices = split_batch(lengths, everything, tokens_at_once=at_once)
        chosen = [[features[i] for i in some] for some in indices]
        parts = [{**self.loaded.collate(some), **stacked_rows(some)} for some in chosen]
        return {"parts": parts, "num_targets": [self.loaded.num_targets(part) for part in parts]}


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where an earlier process was, see `checkpoint`."""

    step: int
    restore: Callable[[torch.optim.Optimizer], None]
    schedule: Mapping[str, Any] | None


class NodeTrainer(Trainer):
    """A Trainer whose order, dropout and checkpoints are the node's.

    Args:
        loaded: What is trained.
        features: On what.
        settings: How.
        arguments: The same, as the Trainer takes it.
        round: Number of the round; each has its own order of examples and dropout.
        terms: What the objective has beside the task's loss.
    """

    def __init__(
        self,
        loaded: TaskModel,
        features: Sequence[Feature],
        *,
        settings: TrainingSettings,
        arguments: NodeArguments,
        round: int,  # noqa: A002 - the glossary's word
        terms: Terms,
    ) -> None:
        self.loaded, self.settings, self.round, self.terms = loaded, settings, round, terms
        self.lengths = [int(feature["length"]) for feature in features]  # type: ignore[call-overload]
        self.resumed: Resumed | None = None
        self.last_loss = 0.0
        self._seen: list[Any] = []
        self._num_samples = 0
        super().__init__(model=loaded.model, args=arguments, train_dataset=terms.beside(features))
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # a loss is a mean over its part, and weighed here
        self._clip = self.accelerator.clip_grad_norm_
        self.accelerator.clip_grad_norm_ = self._clip_finite

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the examples in an order that follows from seed, round and epoch."""
        seed = self.settings.seed
        batches = EpochBatches(
            self.lengths, self.args.train_batch_size, lambda epoch: derive_seed(seed, "order", self.round, epoch)
        )
        workers = {
            name: getattr(self.args, f"dataloader_{name}")
            for name in ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor")
        }
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=Parts(loaded=self.loaded, tokens_at_once=self.settings.tokens_at_once * max(1, self.args.n_gpu)),
            **workers,
        )
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return the batches of a step, and over how many targets its loss is the mean."""
        samples, _ = super().get_batch_samples(*args, **kwargs)
        self._seen = []
        self._num_samples = len(samples)
        return samples, sum(sum(sample["num_targets"]) for sample in samples)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Pass a batch forward and back, part by part; the last of a step completes its gradients."""
        model.train()
        prepared = self._prepare_inputs(inputs)
        total = self._pass(model, prepared, num_items_in_batch, number=len(self._seen))
        self.last_loss = total.item() + (self.last_loss if self._seen else 0.0)
        self._seen.append(prepared if self.terms else None)
        if self.terms and len(self._seen) == self._num_samples:

            def again() -> None:
                for number, batch in enumerate(self._seen):
                    self._pass(model, batch, num_items_in_batch, number=number)

            self.terms.complete(self.accelerator.backward, again)
        return total

    def _pass(self, model: nn.Module, inputs: Any, num_targets_in_all: int, *, number: int) -> Tensor:
        """Add the gradients of one batch of a step."""
        self._seed_dropout(number)
        total = torch.zeros((), device=self.args.device)
        for part, num_targets in zip(inputs["parts"], inputs["num_targets"], strict=True):
            if not num_targets:  # the mean over nothing is no number
                continue
            with failures_of(self.loaded.shared_part, f"training on {len(next(iter(part.values())))} examples"):
                given, share = dict(part), num_targets / num_targets_in_all
                rows = given.pop(ROWS, None)
                with self.compute_loss_context_manager():
                    loss, output = self.compute_loss(model, given, return_outputs=True)
                loss = loss.mean() * share
                more = None if rows is None else self.terms.loss(output.features, rows) * share
                self.accelerator.backward(loss if more is None else loss + more)
            total += loss.detach()
        return total

    def _seed_dropout(self, number: int) -> None:
        """Make what is dropped follow from the numbers of the round, the step, and the batch within the step."""
        counters: tuple[int | str, ...] = ("dropout", self.round, self.state.global_step)
        torch.manual_seed(derive_seed(self.settings.seed, *counters, *([number] if number else [])))

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimiser, with the learning rates that the objective wants."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.terms:
            self.terms.split_groups(optimizer, self.loaded.model)
        return optimizer

    def _clip_finite(self, *args: Any, **kwargs: Any) -> Any:
        norm = self._clip(*args, **kwargs)
        if self.accelerator.scaler is None and norm is not None and not torch.as_tensor(norm).isfinite():
            raise UserInputError(
                f"training diverged at step {self.state.global_step + 1}: the gradient's norm is {float(norm)}; "
                f"choose a learning rate below {self.args.learning_rate}"
            )
        return norm

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ARG002
        """Count nothing: a batch is not what the Trainer expects, and nobody asks."""
        return 0

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Decay every weight alike, as the settings say it, but one that trains at some elements only."""
        masked = masked_parameters(self.loaded.model)
        return [name for name, _ in model.named_parameters() if name not in masked]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Rise and fall linearly as the settings say, unless the user names a schedule or a warm-up."""
        own = {"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"}
        if self.lr_scheduler is None and not own & self.settings.train_args.keys():
            warmup = self.settings.warmup_fraction

            def factor(step: int) -> float:
                if step >= num_training_steps:
                    return 0.0
                return learning_rate_factor(step, num_steps=num_training_steps, warmup_fraction=warmup)

            inner: Any = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(getattr(inner, "optimizer", inner), factor)
            self._created_lr_scheduler = True
            return self.lr_scheduler
        return super().create_scheduler(num_training_steps, optimizer)

    def resume(self, resumed: Resumed, scratch: Path) -> None:
        """Train on from where an earlier process was.

        Args:
            resumed: Where that was; the model has its weights already.
            scratch: Folder for the note by which the Trainer knows the step.
        """
        self.resumed, length = resumed, Length.of(len(self.lengths), self.args)
        state = TrainerState(global_step=resumed.step, epoch=resumed.step / length.epoch_steps)
        state.compute_steps(self.args, length.num_steps)  # type: ignore[no-untyped-call]
        state.train_batch_size = self._train_batch_size
        state.save_to_json(str(scratch / STATE_FILE))
        self.train(resume_from_checkpoint=str(scratch))

    def _load_from_checkpoint(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing: the weights are in the model."""

    def _load_rng_state(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing: no random state lives from one step to the next."""

    def _load_optimizer_and_scheduler(self, *_args: Any, **_kwargs: Any) -> None:
        """Take the optimiser's state and the schedule from the node's checkpoint."""
        if self.resumed is None or self.lr_scheduler is None or self.optimizer is None:
            return
        self.resumed.restore(self.optimizer)
        if self.resumed.schedule is not None:
            self.lr_scheduler.load_state_dict(dict(self.resumed.schedule))
        elif isinstance(self.lr_scheduler, LambdaLR):  # a checkpoint of a version that asked the step alone
            scheduler, step = self.lr_scheduler, self.resumed.step
            rates = [rate * factor(step) for rate, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
            scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": step, "_last_lr": rates})
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


class Watched(Protocol):
    """A run that is told how far the Trainer is."""

    is_stopped: bool

    def begin_epoch(self) -> None:
        """An epoch begins."""

    def close_step(self, step: int) -> bool:
        """A step is done; return whether the run is to end here."""

    def close_epoch(self) -> bool:
        """An epoch is done; return whether the run is to end here."""


class Steps(TrainerCallback):
    """Tells a run what the Trainer has done, and the Trainer when to end."""

    def __init__(self, run: Watched) -> None:
        self.run = run

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Tell of an epoch that begins."""
        self.run.begin_epoch()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Tell of a step that is done."""
        if self.run.close_step(state.global_step):
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Tell of an epoch that is done."""
        if not self.run.is_stopped and self.run.close_epoch():
            control.should_training_stop = True
