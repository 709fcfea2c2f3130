"""mergekit as a peer: an installation elsewhere, run by its own command on the same folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from coldfuse.experiments.bench_fuse_models import Job

Parameters = Mapping[str, float]

MERGES: Mapping[str, tuple[str, Parameters]] = {
    "mean": ("linear", {}),
    "ties": ("ties", {"density": 0.2}),
    "dare then mean": ("dare_linear", {"density": 0.5}),
    "dare then ties": ("dare_ties", {"density": 0.5}),
    "breadcrumbs then mean": ("breadcrumbs", {"density": 0.15, "gamma": 0.006}),
}
"""Its method, and the parameters of each model, by our recipe.

It ranks within tensors, and calculates in their dtype."""

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def mergekit_command(executable: Path, job: Job, folder: Path) -> list[str]:
    """Write mergekit's configuration into `folder`, and return its command."""
    method, parameters = MERGES[job.method]
    models = [{"model": model, "parameters": {"weight": 1.0, **parameters}} for model in job.models]
    config: dict[str, object] = {
        "merge_method": method, "models": models, "dtype": _DTYPES[job.dtype], "parameters": {"normalize": True},
    }  # fmt: skip
    if method != "linear":
        config["base_model"] = job.base
    path = folder / "mergekit.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return [
        str(executable), str(path), job.out, "--no-copy-tokenizer", "--no-write-model-card", "--quiet",
        "--num-threads", str(job.num_workers),
    ]  # fmt: skip
