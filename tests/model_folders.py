"""Models that are folders of folders, hand-made: a chain of modules, and a pipeline of components."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tiny_rounds import Model, floats, parse_file, write_file

ROOT, DENSE, ROUTED = "model.safetensors", "2_Dense/model.safetensors", "3_Router/query_0_Dense/model.safetensors"
UNET, ENCODER = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


def write_files(folder: Path, files: Mapping[str, object]) -> Path:
    """Write tensors, texts, bytes, and everything else as JSON."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors") and isinstance(content, dict):
            write_file(folder / name, content)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def weights(seed: int, rows: int = 3) -> Model:
    return {"linear.weight": floats(np.random.default_rng(seed).normal(size=(rows, 4)))}


def write_modules(folder: Path, seed: int = 0, **more: object) -> Path:
    """Write what sentence-transformers writes: a body, a pooling, a dense layer, and a router with another one."""
    paths = ["", "1_Pooling", "2_Dense", "3_Router", "4_Normalize"]
    files: dict[str, object] = {
        "modules.json": [{"idx": i, "path": path, "type": f"library.module.M{i}"} for i, path in enumerate(paths)],
        "config.json": {"model_type": "tiny"},
        "1_Pooling/config.json": {},
        "2_Dense/config.json": {"in_features": 4},
        "3_Router/router_config.json": {"types": {"query_0_Dense": "library.Dense"}, "structure": {}},
        "3_Router/query_0_Dense/config.json": {},
        ROOT: weights(seed),
        DENSE: weights(seed + 10),
        ROUTED: weights(seed + 20),
    }
    return write_files(folder, files | more)


def write_pipeline(folder: Path, seed: int = 0, **more: object) -> Path:
    """Write what diffusers writes: two components with weights, and two without."""
    files: dict[str, object] = {
        "model_index.json": {
            "_class_name": "APipeline", "_name_or_path": ["a", "b"], "unet": ["diffusers", "AUNet"],
            "text_encoder": ["transformers", "AnEncoder"], "scheduler": ["diffusers", "AScheduler"],
            "tokenizer": ["transformers", "ATokenizer"], "safety_checker": [None, None], "needs_it": False,
        },
        "unet/config.json": {"_class_name": "AUNet"},
        UNET: weights(seed),
        "text_encoder/config.json": {"model_type": "tiny"},
        ENCODER: weights(seed + 10),
        "scheduler/scheduler_config.json": {},
        "tokenizer/vocab.json": {},
        "tokenizer/merges.txt": "",
    }  # fmt: skip
    return write_files(folder, files | more)


def read_files(folder: Path) -> dict[str, Model]:
    """Read every safetensors file under a folder, with the library."""
    return {str(file.relative_to(folder)): parse_file(file.read_bytes()) for file in folder.rglob("*.safetensors")}


def listed(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
