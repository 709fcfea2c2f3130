"""What a researcher writes: whole models in torch, one tensor after the other.

Files are mapped into memory and viewed as tensors, which is what `safetensors.torch.load_file` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.experiments.bench_fuse_models import WEIGHTS, Job
from coldfuse.tensors.files import read_file_header

State = dict[str, Tensor]

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_DENSITY = 0.2


def run_peer(job: Job) -> None:
    """Load, fuse, save."""
    torch.set_num_threads(job.num_workers)
    base = _load(Path(job.base))
    models = [_load(Path(model)) for model in job.models]
    _save(PEERS[job.method](base, models), job)


def mean(base: State, models: Sequence[State]) -> State:
    """Σ θ_i / C."""
    return {
        name: (sum((model[name].float() for model in models), torch.zeros(())) / len(models)).to(before.dtype)
        for name, before in base.items()
    }


def ties(base: State, models: Sequence[State]) -> State:
    """Each model's threshold over all its deltas by `kthvalue`; then sign and mean, tensor by tensor."""
    thresholds = [_threshold(base, model) for model in models]
    return {name: _merge(name, base, models, thresholds) for name in base}


PEERS: Mapping[str, Callable[[State, Sequence[State]], State]] = {"mean": mean, "ties": ties}
"""By recipe."""


def _threshold(base: State, model: State) -> float:
    size = torch.cat([(model[name].float() - before.float()).abs().flatten() for name, before in base.items()])
    return float(size.kthvalue(len(size) - int(len(size) * _DENSITY)).values)


def _merge(name: str, base: State, models: Sequence[State], thresholds: Sequence[float]) -> Tensor:
    before = base[name].float()
    deltas = torch.stack([model[name].float() - before for model in models])
    least = torch.tensor(thresholds).reshape(-1, *(1 for _ in before.shape))
    deltas[deltas.abs() < least] = 0
    sign = deltas.sum(0).sign()
    sign = torch.where(sign == 0, deltas.sign().sum(0).sign(), sign)
    deltas[deltas.sign() != sign] = 0
    merged = deltas.sum(0) / (deltas != 0).sum(0).clamp(min=1)
    return (before + merged).to(base[name].dtype)


def _load(folder: Path) -> State:
    path = folder / WEIGHTS
    header = read_file_header(path)
    data = torch.from_file(str(path), shared=False, size=header.file_bytes, dtype=torch.uint8)
    return {
        entry.name: data[entry.start : entry.start + entry.spec.size_bytes]
        .view(_DTYPES[entry.spec.dtype])
        .reshape(entry.spec.shape)
        for entry in header.tensors
    }


def _save(state: State, job: Job) -> None:
    folder, base = Path(job.out), Path(job.base)
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    header = read_file_header(base / WEIGHTS)
    with open(base / WEIGHTS, "rb") as before, open(folder / WEIGHTS, "wb") as file:
        file.write(before.read(header.size_bytes))
        for entry in header.tensors:
            file.write(state[entry.name].contiguous().view(torch.uint8).numpy().data)
