"""Made-up models to fuse, shaped like real ones: their sizes matter, and how deltas lie around a base.

All files of a benchmark hold the same tensors in the order of their names, so that a program which knows that may take
a model for one long vector. A block of random numbers is written over and over: making new ones would take longer than
fusing them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from coldfuse.core.dtypes import Raw, from_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.header import format_header
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header

WEIGHTS = "model.safetensors"
_BLOCK = 1 << 22
"""Elements of the block of random numbers."""

_BASE_SCALE, _DELTA_SCALE = 0.02, 0.002
"""Standard deviations: of trained weights, and of what fine-tuning changes, roughly."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fusion, as every program of the benchmark gets it."""

    method: str
    base: str
    models: tuple[str, ...]
    statistics: tuple[str, ...]
    """One file a model, or none."""
    out: str
    """The folder to make."""
    dtype: str
    num_workers: int
    on_ray: bool
    num_parameters: int

    @property
    def files(self) -> list[Path]:
        """All files that are read: base, contributions and statistics."""
        return [*(Path(model) / WEIGHTS for model in (self.base, *self.models)), *map(Path, self.statistics)]

    @property
    def input_bytes(self) -> int:
        """Size of them all."""
        return sum(file.stat().st_size for file in self.files)

    def write(self, path: Path) -> Path:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read it back."""
        values = json.loads(path.read_bytes())
        return replace(cls(**values), models=tuple(values["models"]), statistics=tuple(values["statistics"]))


def make_job(folder: Path, shapes: Shapes, config: Mapping[str, object], job: Job, *, num_models: int) -> Job:
    """Write a base and models of these shapes, and return the job with them in it."""
    base_block = np.random.default_rng(0).standard_normal(_BLOCK) * _BASE_SCALE
    models = []
    for index in range(num_models + 1):
        delta_block = np.random.default_rng(index).standard_normal(_BLOCK) * _DELTA_SCALE
        block = from_floats(base_block + delta_block if index else base_block, job.dtype)
        models.append(str(_write_model(folder / f"model-{index}", shapes, config, block, job.dtype)))
    return replace(job, base=models[0], models=tuple(models[1:]), out=str(folder / "fused"))


def make_statistics(folder: Path, shapes: Shapes, job: Job) -> Job:
    """Write a file of Fisher information beside each model, and return the job with them in it."""
    files = []
    for index, model in enumerate(job.models):
        info = StatisticsInfo(
            kind="fisher", estimator="exact", model=open_checkpoint(Path(model)).digest(), num_examples=256,
            over="examples", count=256,
        )  # fmt: skip
        block = from_floats(np.random.default_rng(1000 + index).standard_normal(_BLOCK) ** 2, "F32")
        files.append(folder / f"fisher-{index}.safetensors")
        _write(files[-1], statistics_header(shapes, info), block, 4 * count_elements(shapes))
    return replace(job, statistics=tuple(map(str, files)))


def count_elements(shapes: Shapes) -> int:
    """Return the number of parameters."""
    return sum(math.prod(shape) for shape in shapes.values())


def square(num_parameters: int | None) -> tuple[Shapes, dict[str, object]]:
    """Square matrices of 2048 rows, and a vector of what is left."""
    whole, rest = divmod(num_parameters or 22_000_000, 2048 * 2048)
    shapes: Shapes = {f"layers.{index:05d}.weight": (2048, 2048) for index in range(whole)}
    return shapes | ({"rest": (rest,)} if rest else {}), {"model_type": "bench"}


def minilm(num_parameters: int | None) -> tuple[Shapes, dict[str, object]]:
    """The shapes of all-MiniLM-L6-v2, or as many layers of another width."""
    side = math.sqrt((num_parameters or 22_713_216) / 22_713_216)
    width, vocabulary = 12 * max(1, round(32 * side)), max(32, round(30522 * side))
    shapes = _linear("pooler.dense", width, width) | _norm("embeddings.LayerNorm", width)
    for name, rows in (("word", vocabulary), ("position", 512), ("token_type", 2)):
        shapes[f"embeddings.{name}_embeddings.weight"] = (rows, width)
    for layer in (f"encoder.layer.{index}" for index in range(6)):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear(f"{layer}.attention.{name}", width, width)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", width) | _norm(f"{layer}.output.LayerNorm", width)
        shapes |= _linear(f"{layer}.intermediate.dense", 4 * width, width)
        shapes |= _linear(f"{layer}.output.dense", width, 4 * width)
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": 6, "num_attention_heads": 12, "vocab_size": vocabulary, "max_position_embeddings": 512,
    }  # fmt: skip
    return dict(sorted(shapes.items())), config


def llama(num_parameters: int | None) -> tuple[Shapes, dict[str, object]]:
    """A Llama of half a billion parameters with Qwen2.5-0.5B's sizes, or as many layers of another width."""
    side = math.sqrt((num_parameters or 493_990_784) / 493_990_784)
    width, middle = 28 * max(1, round(32 * side)), 8 * max(1, round(608 * side))
    vocabulary = max(32, round(151936 * side))
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for layer in (f"model.layers.{index}" for index in range(24)):
        for name, rows in (("q", width), ("k", width // 7), ("v", width // 7), ("o", width)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (rows, width)
        for name in ("gate", "up"):
            shapes[f"{layer}.mlp.{name}_proj.weight"] = (middle, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, middle)
        shapes[f"{layer}.input_layernorm.weight"] = shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "hidden_act": "silu",
        "intermediate_size": middle, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "vocab_size": vocabulary, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    }  # fmt: skip
    return dict(sorted(shapes.items())), config


SHAPES: dict[str, Callable[[int | None], tuple[Shapes, dict[str, object]]]] = {
    "square": square,
    "minilm": minilm,
    "llama-0.5b": llama,
}
"""Shapes of a model with so many parameters, or as many as the original has, and its config.json."""


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _write_model(folder: Path, shapes: Shapes, config: Mapping[str, object], block: Raw, dtype: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    specs = [(name, TensorSpec(dtype=dtype, shape=shape)) for name, shape in shapes.items()]
    size_bytes = sum(spec.size_bytes for _, spec in specs)
    _write(folder / WEIGHTS, format_header(specs, {"format": "pt"}), block, size_bytes)
    return folder


def _write(path: Path, header: bytes, block: Raw, size_bytes: int) -> None:
    with open(path, "wb") as file:
        file.write(header)
        for start in range(0, size_bytes, len(block)):
            file.write(block[: min(len(block), size_bytes - start)].data)
        file.flush()
        os.fsync(file.fileno())  # else the disk would still be at it while programs are measured
