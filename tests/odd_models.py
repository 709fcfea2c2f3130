"""Model folders as people have them, and as nobody should: each a tiny base, changed in one way.

`ODD_MODELS` says of each what becomes of it as an input and as a base: None where it works, else a word that the one
line of the refusal must have.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

Change = Callable[[Path], object]


@dataclass(frozen=True)
class OddModel:
    """A change of a tiny model's folder, and what is right for it."""

    change: Change
    """Makes the folder odd."""
    as_model: str | None = None
    """What is said when it is fused into the plain base; None: it is fused."""
    as_base: str | None = None
    """What is said when it is the base of itself; None: it is fused."""


def config(**changes: Any) -> Change:
    """Change settings; None takes one away."""

    def change(folder: Path) -> None:
        document = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return change


def text(name: str, content: str | bytes) -> Change:
    """Write a file."""
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def tensors(change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]], **metadata: str) -> Change:
    """Change the tensors."""
    return lambda folder: save_file(
        {name: value.contiguous() for name, value in change(load_file(folder / WEIGHTS)).items()},
        folder / WEIGHTS,
        metadata or {"format": "pt"},
    )


def renamed(rename: Callable[[str], str]) -> Change:
    """Rename all tensors."""
    return tensors(lambda found: {rename(name): value for name, value in found.items()})


def header(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the header of the weights' file as a program that writes it itself would, or one that means no good."""

    def write(folder: Path) -> None:
        raw = (folder / WEIGHTS).read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        document = json.loads(raw[8 : 8 + length])
        changed = change(document)
        head = json.dumps(document if changed is None else changed).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(head)) + head + raw[8 + length :])

    return write


def cut(size: int) -> Change:
    """Keep the first bytes of the weights' file."""
    return lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:size])


def several(*changes: Change) -> Change:
    """Make several changes."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def shards(count: int, **index: Any) -> Change:
    """Cut the weights into files, with an index that may be odd."""

    def change(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
        weight_map = {tensor: names[n % count] for n, tensor in enumerate(sorted(found))}
        for name in names:
            save_file({k: v for k, v in found.items() if weight_map[k] == name}, folder / name, {"format": "pt"})
        document = {"metadata": {"total_size": 0}, "weight_map": weight_map} | index
        (folder / INDEX).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return change


def without(*names: str) -> Change:
    """Remove files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def _swapped(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return found | {"pooler.dense.weight": found["pooler.dense.weight"].to(torch.float16)}


def _first_layers(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in found.items() if "layer.1" not in name}


def _nan(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return found | {"pooler.dense.bias": torch.full((32,), float("nan"))}


def _more_words(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "embeddings.word_embeddings.weight"
    return found | {name: torch.cat([found[name], torch.zeros(3, found[name].shape[1])])}


def _mark(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())


def _first_shard_twice(folder: Path) -> None:
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")


_DEEP = "[" * 100_000 + "]" * 100_000

ODD_MODELS: dict[str, OddModel] = {
    # what is fine
    "as it is": OddModel(lambda folder: None),
    "a byte-order mark in config.json": OddModel(_mark),
    "half precision": OddModel(tensors(lambda t: {k: v.half() for k, v in t.items()})),
    "bfloat16": OddModel(tensors(lambda t: {k: v.bfloat16() for k, v in t.items()})),
    "double precision": OddModel(tensors(lambda t: {k: v.double() for k, v in t.items()})),
    "mixed precision": OddModel(tensors(_swapped)),
    "three shards": OddModel(shards(3)),
    "shards of a tensor each": OddModel(shards(39)),
    "metadata of a trainer": OddModel(tensors(dict, format="pt", epoch="3", note="später")),
    "no metadata": OddModel(header(lambda h: {k: v for k, v in h.items() if k != "__metadata__"})),
    "null metadata": OddModel(header(lambda h: h | {"__metadata__": None})),
    "an unknown setting": OddModel(config(something_new={"a": [1, 2]})),
    "an architecture that nobody knows": OddModel(config(architectures=["MyBert"])),
    "no architecture": OddModel(config(architectures=None)),
    "architectures that are no list": OddModel(config(architectures="BertModel")),
    "an empty list of architectures": OddModel(config(architectures=[])),
    "integer buffers": OddModel(tensors(lambda t: t | {"embeddings.position_ids": torch.arange(64)[None]})),
    "a tensor of no elements": OddModel(tensors(lambda t: t | {"nothing": torch.zeros(0, dtype=torch.int64)})),
    "a trainer's files": OddModel(several(text("optimizer.pt", b"\x80\x02}q."), text("trainer_state.json", "{}"))),
    "pickled weights beside": OddModel(text("pytorch_model.bin", b"PK\x03\x04")),
    "hidden files": OddModel(several(text(".DS_Store", b"\0"), text("._model.safetensors", b"\0\x05"))),
    "a file named in other scripts": OddModel(text("notes-Größe-日本.txt", "x")),
    "an empty tokenizer": OddModel(text("tokenizer.json", "")),
    "a compiled model": OddModel(renamed(lambda name: f"_orig_mod.{name}")),
    "a model in parallel": OddModel(renamed(lambda name: f"module.{name}")),
    "a body's prefix": OddModel(renamed(lambda name: f"bert.{name}")),
    "a prefix of its own": OddModel(renamed(lambda name: f"encoder.model.{name}")),
    "old layer norms": OddModel(
        renamed(lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"))
    ),
    "a head": OddModel(tensors(lambda t: t | {"classifier.weight": torch.ones(3, 32)})),
    "a head beside a prefixed body": OddModel(
        tensors(lambda t: {f"bert.{k}": v for k, v in t.items()} | {"classifier.weight": torch.ones(3, 32)})
    ),
    # what is not
    "no config": OddModel(without(CONFIG), "config.json", "config.json"),
    "no weights": OddModel(without(WEIGHTS), "safetensors", "safetensors"),
    "pickled weights alone": OddModel(
        several(without(WEIGHTS), text("pytorch_model.bin", b"PK\x03\x04")), "safetensors", "safetensors"
    ),
    "an empty config": OddModel(text(CONFIG, ""), CONFIG, CONFIG),
    "a config that is no JSON": OddModel(text(CONFIG, "{'model_type': 'bert'}"), CONFIG, CONFIG),
    "a config that is a list": OddModel(text(CONFIG, "[]")),
    "a config that is null": OddModel(text(CONFIG, "null")),
    "a config in another encoding": OddModel(
        text(CONFIG, '{"name": "Größe"}'.encode("latin-1")), CONFIG, CONFIG
    ),
    "a deep config": OddModel(text(CONFIG, _DEEP), CONFIG, CONFIG),
    "a model type that is a number": OddModel(config(model_type=7)),
    "numbers out of range": OddModel(config(hidden_size=10**30, num_hidden_layers=-1)),
    "a billion layers": OddModel(config(num_hidden_layers=10**9)),
    "settings of the wrong type": OddModel(config(hidden_size="wide", num_attention_heads=None)),
    "NaN in the config": OddModel(text(CONFIG, '{"model_type": "bert", "layer_norm_eps": NaN}')),
    "weights of no bytes": OddModel(text(WEIGHTS, b""), "safetensors", "safetensors"),
    "weights of seven bytes": OddModel(cut(7), "safetensors", "safetensors"),
    "weights cut in the header": OddModel(cut(100), "safetensors", "safetensors"),
    "weights cut in the data": OddModel(cut(20_000), "safetensors", "safetensors"),
    "a page of the web": OddModel(text(WEIGHTS, "<!DOCTYPE html><html>404</html>"), "safetensors", "safetensors"),
    "a pointer of Git LFS": OddModel(
        text(WEIGHTS, "version https://git-lfs.github.com/spec/v1\nsize 9\n"), "safetensors", "safetensors"
    ),
    "a header of 2^63 bytes": OddModel(text(WEIGHTS, struct.pack("<Q", 1 << 63) + b"{}"), "safetensors", "safetensors"),
    "a deep header": OddModel(
        text(WEIGHTS, struct.pack("<Q", len(_DEEP)) + _DEEP.encode()), "safetensors", "safetensors"
    ),
    "tensors that overlap": OddModel(
        header(lambda h: h["pooler.dense.bias"].update(data_offsets=[0, 128])), "safetensors", "safetensors"
    ),
    "a shape of 2^64 elements": OddModel(
        header(lambda h: h["pooler.dense.bias"].update(shape=[1 << 32, 1 << 32])), "safetensors", "safetensors"
    ),
    "a negative size": OddModel(
        header(lambda h: h["pooler.dense.bias"].update(shape=[-32])), "safetensors", "safetensors"
    ),
    "a dtype that nobody knows": OddModel(
        header(lambda h: h["pooler.dense.bias"].update(dtype="F7")), "F7", "F7"
    ),
    "a missing shard": OddModel(several(shards(3), without("model-00002-of-00003.safetensors")), "00002", "00002"),
    "an index without a map": OddModel(shards(2, weight_map=None), "index", "index"),
    "an index with a path": OddModel(shards(2, weight_map={"a": "../../secret.safetensors"}), "index", "index"),
    "an index with numbers": OddModel(shards(2, weight_map={"a": 7}), "index", "index"),
    "an index that is a list": OddModel(several(shards(2), text(INDEX, "[]")), "index", "index"),
    "an index that is no JSON": OddModel(several(shards(2), text(INDEX, "{")), "index", "index"),
    "a deep index": OddModel(several(shards(2), text(INDEX, _DEEP)), "index", "index"),
    "a tensor in two shards": OddModel(
        several(shards(2), _first_shard_twice), "model-0000", "model-0000"
    ),
    "a layer less": OddModel(tensors(_first_layers), as_model="layer.1"),
    "more words": OddModel(tensors(_more_words), as_model="3 rows more"),
    "a tensor that is not a number": OddModel(tensors(_nan), as_model="pooler.dense.bias"),
    "names twice": OddModel(
        tensors(lambda t: t | {"_orig_mod.pooler.dense.bias": t["pooler.dense.bias"] + 1}), as_model="pooler.dense.bias"
    ),
    "other names altogether": OddModel(renamed(lambda name: name[::-1]), as_model="missing"),
    "one tensor": OddModel(tensors(lambda t: {"pooler.dense.bias": t["pooler.dense.bias"]}), as_model="missing"),
    "no tensor": OddModel(tensors(lambda t: {}), as_model="missing"),
    "integers alone": OddModel(tensors(lambda t: {"n": torch.arange(3)}), as_model="missing"),
}  # fmt: skip
"""All odd models by what is odd about them."""
