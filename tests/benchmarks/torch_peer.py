"""What a researcher writes: whole models in torch, one tensor after the other.

python tests/benchmarks/torch_peer.py mean|ties THREADS OUT BASE MODEL...
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DENSITY = 0.2


def mean(base, models):
    """Σ θ_i / C."""
    return {
        name: (sum(model[name].float() for model in models) / len(models)).to(before.dtype)
        for name, before in base.items()
    }


def ties(base, models):
    """Each model's threshold over all its deltas by `kthvalue`; then sign and mean, tensor by tensor."""
    thresholds = torch.tensor([threshold(base, model) for model in models])
    return {name: merge(base[name], [model[name] for model in models], thresholds) for name in base}


def threshold(base, model):
    size = torch.cat([(model[name].float() - before.float()).abs().flatten() for name, before in base.items()])
    return float(size.kthvalue(len(size) - int(len(size) * DENSITY)).values)


def merge(before, tensors, thresholds):
    deltas = torch.stack([tensor.float() - before.float() for tensor in tensors])
    deltas[deltas.abs() < thresholds.reshape(-1, *(1 for _ in before.shape))] = 0
    sign = deltas.sum(0).sign()
    sign = torch.where(sign == 0, deltas.sign().sum(0).sign(), sign)
    deltas[deltas.sign() != sign] = 0
    return (before.float() + deltas.sum(0) / (deltas != 0).sum(0).clamp(min=1)).to(before.dtype)


def main(method, threads, out, *folders):
    torch.set_num_threads(int(threads))
    base, *models = (load_file(Path(folder) / "model.safetensors") for folder in folders)
    Path(out).mkdir()
    save_file({"mean": mean, "ties": ties}[method](base, models), Path(out) / "model.safetensors")
    shutil.copy(Path(folders[0]) / "config.json", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
