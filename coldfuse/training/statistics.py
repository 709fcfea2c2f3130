"""From a fine-tuned model's folder and its data to a file of statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.naming.building import quiet
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import write_safetensors
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header
from coldfuse.training.compute import compute_threads, pick_device, reproducible, to_device
from coldfuse.training.encoding import TokenizedTexts, encode_all, tokenize
from coldfuse.training.estimators import Estimator, by_stored_name, choose, diagonal_fisher, input_grams
from coldfuse.training.head import HEAD_FILE, MAX_FITTING_EXAMPLES, LinearHead, fit_linear_probe, read_head
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import private_tensors, stored_names_in
from coldfuse.training.private import PrivatePart, read_private
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.task_statistics import Wish, estimate, info_of, set_tensors
from coldfuse.training.tasks import describe_task
from coldfuse.training.tasks.task import Task

Tensors = Mapping[str, Tensor]
"""Statistics of each tensor, by the names of the model that was measured."""


@dataclass(frozen=True, kw_only=True)
class StatisticsJob:
    """What is computed of which model from which examples."""

    model_dir: Path
    """The fine-tuned model's folder."""
    data: TextDataset
    """Examples of the task that it was tuned for; for a folder with a head, with the head's labels."""
    kind: Literal["fisher", "gram"]
    """Fisher information of each weight, or Gram matrices of the linear layers' inputs."""
    estimator: Estimator = "exact"
    """Estimator of the Fisher information: over all classes, or for the labels that the examples have."""
    num_examples: int | None = 256
    """Number of examples, chosen at random by `seed`, that are looked at; None for all."""
    include_padding: bool = False
    """True to count the padding in Gram matrices."""
    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    device: str = "auto"
    """Device that computes: `cpu`, `cuda`, or `auto` for a GPU where there is one."""
    threads: int | None = None
    """Processor threads; unset leaves torch's choice."""
    seed: int = 0
    """Seed of the choice of examples."""


def compute_statistics(job: StatisticsJob) -> tuple[StatisticsInfo, dict[str, Tensor]]:
    """Compute the statistics: what they are, and the tensors, float32 on the CPU, by the names in the model's files.

    Raises `UserInputError` where model, head, data and device do not go together, or the model's weights are broken.
    """
    folder = open_checkpoint(job.model_dir)
    body, tokenizer = to_device(load_body(job.model_dir), job.device), load_tokenizer(job.model_dir)
    texts = tokenize(tokenizer, job.data, find_intake(body, tokenizer, max_length=job.max_length))
    chosen = choose(len(texts), job.num_examples, seed=job.seed)
    with compute_threads(job.threads):
        values, info = (_fisher if job.kind == "fisher" else _gram)(job, folder.digest(), body, texts, chosen)
    tensors = {name: t.cpu() for name, t in by_stored_name(body, values, folder.schema.keys()).items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserInputError(f"{job.model_dir}: statistics of {name} are not finite: its weights are broken")
    return info, tensors


def _fisher(
    job: StatisticsJob, digest: str, body: nn.Module, texts: TokenizedTexts, chosen: list[int]
) -> tuple[dict[str, Tensor], StatisticsInfo]:
    head = _own_head(job, body) or _fit_head(job, body, texts)
    labels = [job.data.labels[i] for i in chosen]
    values = diagonal_fisher(body, head, texts.take(chosen), labels, estimator=job.estimator)
    info = StatisticsInfo(
        kind="fisher", estimator=job.estimator, model=digest, num_examples=len(chosen), over="examples",
        count=len(chosen),
    )  # fmt: skip
    return values, info


def _gram(
    job: StatisticsJob, digest: str, body: nn.Module, texts: TokenizedTexts, chosen: list[int]
) -> tuple[dict[str, Tensor], StatisticsInfo]:
    values, num_tokens = input_grams(body, texts.take(chosen), include_padding=job.include_padding)
    info = StatisticsInfo(
        kind="gram", estimator="inputs", model=digest, num_examples=len(chosen), over="tokens", count=num_tokens,
        padding="included" if job.include_padding else "excluded",
    )  # fmt: skip
    return values, info


def compute_task_statistics(
    model_dir: Path, task: Task, examples: Any, settings: TrainingSettings, wish: Wish
) -> tuple[StatisticsInfo, Mapping[str, Tensor]]:
    """Compute the statistics of a model folder on examples of any task; see `compute_statistics`.

    A task's private head is the folder's own, as a node writes it, or else a linear probe of its features.

    Args:
        model_dir: The fine-tuned model's folder.
        task: What it was tuned for.
        examples: Examples of the task.
        settings: How many tokens are read, and where it is computed.
        wish: What is computed.

    Raises:
        UserInputError: The task or the model has no such statistics.
    """
    folder = open_checkpoint(model_dir)
    with quiet(), reproducible(seed=settings.seed, device=settings.device, threads=settings.threads):
        loaded = task.load(model_dir, examples, settings)
        loaded.model.to(pick_device(settings.device))
        features = task.encode(loaded, examples)
        names = folder.schema.keys()
        own = private_tensors(loaded.model, loaded.shared_part, names)
        kept = _kept_head(model_dir / HEAD_FILE)
        if kept is not None and kept.fits(own, task=describe_task(task), notes=loaded.notes):
            set_tensors(own, kept.tensors)
        elif task.has_private_head and wish.kind == "fisher":
            task.start_head(loaded, features)
        found = estimate(loaded, features, stored_names_in(loaded.model, loaded.shared_part, names), wish)
    return info_of(found, wish.kind, model=folder.digest()), found.tensors


def _kept_head(path: Path) -> PrivatePart | None:
    """Return the private tensors in a folder; None where there are none that say of which task they are."""
    try:
        return read_private(path) if path.is_file() else None
    except UserInputError:
        return None


def write_statistics(path: Path, tensors: Mapping[str, Tensor], info: StatisticsInfo) -> None:
    """Write a file of statistics; it is there whole or not at all."""
    header = statistics_header({name: tuple(tensor.shape) for name, tensor in tensors.items()}, info)

    def read(piece: Piece) -> Raw:
        flat = tensors[piece.tensor.name].contiguous().numpy().reshape(-1)
        return from_floats(flat[piece.first : piece.first + piece.num_elements], "F32")

    write_safetensors(path, header, read)


def head_labels(model_dir: Path) -> tuple[str, ...] | None:
    """Return the names of the classes of the head in a model's folder, or None if it has no head."""
    path = model_dir / HEAD_FILE
    return read_head(path)[1] if path.is_file() else None


def _own_head(job: StatisticsJob, body: nn.Module) -> LinearHead | None:
    path = job.model_dir / HEAD_FILE
    if not path.is_file():
        return None
    head, labels = read_head(path)
    num_features = int(getattr(body.config, "hidden_size", 0))
    if head.weight.shape[1] != num_features or job.data.label_names != labels:
        raise UserInputError(
            f"{path}: it has weights of shape {tuple(head.weight.shape)} for {labels[:8]}, expected "
            f"{(len(labels), num_features)} for {job.data.label_names[:8]}; read the data with the head's label names, "
            "or remove the head and have one fitted"
        )
    return head.to(next(body.parameters()).device)


def _fit_head(job: StatisticsJob, body: nn.Module, texts: TokenizedTexts) -> LinearHead:
    """Fit a linear probe of the body."""
    used = choose(len(texts), MAX_FITTING_EXAMPLES, seed=job.seed)
    features = encode_all(body, texts.take(used))
    labels = torch.tensor([job.data.labels[i] for i in used], device=features.device)
    return fit_linear_probe(features, labels, num_classes=job.data.num_classes)
