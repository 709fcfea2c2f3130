"""From a fine-tuned model's folder and its data to a file of statistics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.files import read_file_header
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header
from coldfuse.training.encoding import TokenizedTexts, encode_all, pick_device, tokenize
from coldfuse.training.linear import LinearProbe, fit_linear_probe
from coldfuse.training.loading import length_limit, load_body, load_tokenizer
from coldfuse.training.statistics import Estimator, by_stored_name, choose, diagonal_fisher, input_grams
from coldfuse.training.statistics_file import write_statistics_file
from coldfuse.training.threads import compute_threads

HEAD = "head.safetensors"
"""The private head, where it lies in a model's folder: as a node writes it, with the labels' names in its metadata."""

_PROBE_EXAMPLES = 10_000  # more hardly move a linear head, and each costs a pass through the body
_SCORING_BATCH = 64


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
    """The Fisher's: over all classes, or for the labels that the examples have."""
    num_examples: int | None = 256
    """How many examples, chosen at random by `seed`, are looked at; None for all."""
    include_padding: bool = False
    """Whether Gram matrices count the padding."""
    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    device: str = "auto"
    """Where to compute: `cpu`, `cuda`, or `auto` for a GPU where there is one."""
    threads: int | None = None
    """Processor threads; unset leaves torch's choice."""
    seed: int = 0
    """Decides which examples are looked at."""


def compute_statistics(job: StatisticsJob) -> tuple[StatisticsInfo, dict[str, Tensor]]:
    """Compute the statistics: what they are, and the tensors, float32 on the CPU, by the names in the model's files."""
    folder = open_checkpoint(job.model_dir)
    body, tokenizer = _to_device(load_body(job.model_dir), job.device), load_tokenizer(job.model_dir)
    texts = tokenize(tokenizer, job.data, max_length=min(job.max_length, length_limit(body, tokenizer)))
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
    head = _read_head(job, body) or _fit_head(job, body, texts)
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


def _to_device(body: nn.Module, name: str) -> nn.Module:
    try:
        return body.to(pick_device(name))
    except (RuntimeError, AssertionError) as error:  # an unknown name, or no such device here
        first_line = str(error).partition("\n")[0]
        raise UserInputError(f"device {name!r} cannot be used: {first_line}") from error


def write_statistics(path: Path, tensors: Mapping[str, Tensor], info: StatisticsInfo) -> None:
    """Write a file of statistics; it is there whole or not at all."""
    header = statistics_header({name: tuple(tensor.shape) for name, tensor in tensors.items()}, info)

    def read(piece: Piece) -> Raw:
        flat = tensors[piece.tensor.name].contiguous().numpy().reshape(-1)
        return from_floats(flat[piece.first : piece.first + piece.num_elements], "F32")

    write_statistics_file(path, header, read)


def head_labels(model_dir: Path) -> list[str] | None:
    """Return the names of the classes of the head in a model's folder, or None if it has no head."""
    path = model_dir / HEAD
    if not path.is_file():
        return None
    try:
        labels = json.loads(read_file_header(path).metadata.get("labels", ""))
    except ValueError:
        labels = None
    if not isinstance(labels, list):
        raise UserInputError(f"{path}: expected a head that coldfuse wrote, with the labels' names in its metadata")
    return [str(label) for label in labels]


def _read_head(job: StatisticsJob, body: nn.Module) -> LinearProbe | None:
    from safetensors.torch import load_file

    labels = head_labels(job.model_dir)
    if labels is None:
        return None
    head = load_file(job.model_dir / HEAD)
    want = {"weight": (len(labels), _num_features(body)), "bias": (len(labels),)}
    got = {name: tuple(tensor.shape) for name, tensor in head.items()}
    if got != want or list(job.data.label_names) != labels:
        raise UserInputError(
            f"{job.model_dir / HEAD}: {got} for {labels[:8]}, expected {want} for {job.data.label_names[:8]}; read the "
            "data with the head's label names, or remove the head and have one fitted"
        )
    device = next(body.parameters()).device
    return LinearProbe(weight=head["weight"].to(device), bias=head["bias"].to(device))


def _num_features(body: nn.Module) -> int:
    return int(getattr(body.config, "hidden_size", 0))


def _fit_head(job: StatisticsJob, body: nn.Module, texts: TokenizedTexts) -> LinearProbe:
    """Fit a linear probe on the body's features."""
    used = choose(len(texts), _PROBE_EXAMPLES, seed=job.seed)
    features = encode_all(body, texts.take(used), batch_size=_SCORING_BATCH)
    labels = torch.tensor([job.data.labels[i] for i in used], device=features.device)
    return fit_linear_probe(features, labels, num_classes=job.data.num_classes)
