"""Made-up models to fuse: their sizes are those of real ones, and their numbers are independent at a real one's scale.

Weights are normal with deviation 0.02, what fine-tuning changed with 0.001. Every piece of every model has a stream of
random numbers of its own: with a block that repeats, fewer distinct sizes would have to be ranked than in real models.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.schema import ITEM_BYTES, TensorSpec
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.header import format_header
from coldfuse.tensors.statistics import StatisticsInfo, statistics_header

WEIGHTS = "model.safetensors"
_PIECE = 1 << 18
"""Elements that are made at a time: small, so that a process which makes models and then measures stays small."""

_BASE_SCALE, _DELTA_SCALE = 0.02, 0.001

_Tensors = dict[str, tuple[int, ...]]

_Make = Callable[[np.random.Generator, int, int], Raw]
"""Returns so many elements as they lie in a file, which begin at this byte of the data."""


@dataclass(frozen=True)
class Shape:
    """What a model consists of."""

    tensors: Mapping[str, tuple[int, ...]]
    """Shapes by name, in the order of the names, which is the order in the file."""
    config: Mapping[str, object]
    """Contents of config.json."""

    @property
    def num_parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(map(math.prod, self.tensors.values()))


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """A base, models of its schema, and perhaps statistics."""

    base: Path
    models: tuple[Path, ...]
    statistics: tuple[Path, ...] = ()
    """A file of Fisher information for each model, or none."""

    @property
    def files(self) -> list[Path]:
        """All files that a fusion reads."""
        return [*(folder / WEIGHTS for folder in (self.base, *self.models)), *self.statistics]

    @property
    def input_bytes(self) -> int:
        """Size of all files that a fusion reads."""
        return sum(file.stat().st_size for file in self.files)


def make_models(folder: Path, shape: Shape, *, dtype: str, num_models: int) -> ModelSet:
    """Make a base and models in `folder`, and take those that it holds already.

    Args:
        folder: For models of these shapes and this dtype only; made if it is not there.
        shape: Tensors and configuration, such as `minilm()`.
        dtype: F32, BF16 or F16.
        num_models: How many beside the base.
    """
    folders = [folder / name for name in ("base", *(f"model-{index}" for index in range(1, num_models + 1)))]
    folder.mkdir(parents=True, exist_ok=True)
    for index, model in enumerate(folders):
        if not model.exists():
            _make_model(model, shape, dtype, index, folders[0] / WEIGHTS if index else None)
    return ModelSet(base=folders[0], models=tuple(folders[1:]))


def add_fisher(made: ModelSet, shape: Shape) -> ModelSet:
    """Make a file of Fisher information beside each model, and return the set with them."""
    files = tuple(model.with_suffix(".fisher.safetensors") for model in made.models)
    for index, (model, file) in enumerate(zip(made.models, files, strict=True)):
        if not file.exists():
            info = StatisticsInfo(
                kind="fisher", estimator="exact", model=open_checkpoint(model).digest(), num_examples=256,
                over="examples", count=256,
            )  # fmt: skip

            def squares(rng: np.random.Generator, count: int, _start: int) -> Raw:
                return from_floats(rng.standard_normal(count, np.float32) ** 2, "F32")

            _write(file, statistics_header(dict(shape.tensors), info), shape, "F32", stream=1000 + index, make=squares)
    return replace(made, statistics=files)


def square(num_parameters: int | None = None) -> Shape:
    """Square matrices of 2048 rows, and a vector of what is left."""
    whole, rest = divmod(num_parameters or 22_000_000, 2048 * 2048)
    shapes: _Tensors = {f"layers.{index:05d}.weight": (2048, 2048) for index in range(whole)}
    return Shape(shapes | ({"rest": (rest,)} if rest else {}), {"model_type": "bench"})


def minilm(num_parameters: int | None = None) -> Shape:
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
    return Shape(dict(sorted(shapes.items())), config)


def llama(num_parameters: int | None = None) -> Shape:
    """A Llama of half a billion parameters with Qwen2.5-0.5B's sizes, or as many layers of another width."""
    side = math.sqrt((num_parameters or 493_990_784) / 493_990_784)
    width, middle = 28 * max(1, round(32 * side)), 8 * max(1, round(608 * side))
    vocabulary = max(32, round(151936 * side))
    shapes: _Tensors = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
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
    return Shape(dict(sorted(shapes.items())), config)


SHAPES: dict[str, Callable[[int | None], Shape]] = {"square": square, "minilm": minilm, "llama-0.5b": llama}
"""Shapes with about so many parameters, or as many as the original has, by name."""


def _linear(name: str, rows: int, columns: int) -> _Tensors:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> _Tensors:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _make_model(folder: Path, shape: Shape, dtype: str, index: int, base: Path | None) -> None:
    specs = [(name, TensorSpec(dtype=dtype, shape=size)) for name, size in shape.tensors.items()]
    header = format_header(specs, {"format": "pt"})
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    (unfinished / "config.json").write_text(json.dumps(shape.config))
    file = os.open(base, os.O_RDONLY) if base else None

    def numbers(rng: np.random.Generator, count: int, start: int) -> Raw:
        values = rng.standard_normal(count, np.float32)
        values *= np.float32(_BASE_SCALE if file is None else _DELTA_SCALE)
        if file is not None:
            before = os.pread(file, count * ITEM_BYTES[dtype], len(header) + start)
            values += to_floats(np.frombuffer(before, np.uint8), dtype)
        return from_floats(values, dtype)

    try:
        _write(unfinished / WEIGHTS, header, shape, dtype, stream=index, make=numbers)
    finally:
        if file is not None:
            os.close(file)
    unfinished.rename(folder)


def _write(path: Path, header: bytes, shape: Shape, dtype: str, *, stream: int, make: _Make) -> None:
    """Write a file piece by piece, on as many threads as there are processors."""
    unfinished = path.with_suffix(".part")
    with open(unfinished, "wb") as file:
        file.write(header)
        file.flush()

        def write(piece: tuple[int, int, int]) -> None:
            tensor, start, count = piece
            rng = np.random.Generator(np.random.SFC64([stream, tensor, start]))
            data = make(rng, count, start)
            if os.pwrite(file.fileno(), data.data, len(header) + start) != len(data):
                raise OSError(f"{unfinished}: a piece was not written whole; is the disk full?")

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(write, _pieces(shape, ITEM_BYTES[dtype])):
                pass
        os.fsync(file.fileno())  # else the disk would still be at it while programs are measured
    unfinished.rename(path)


def _pieces(shape: Shape, item_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of the tensor, the piece's first byte in the data, and its number of elements."""
    start = 0
    for tensor, size in enumerate(map(math.prod, shape.tensors.values())):
        for first in range(0, size, _PIECE):
            yield tensor, start + first * item_bytes, min(_PIECE, size - first)
        start += size * item_bytes
