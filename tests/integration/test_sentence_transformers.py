"""A model of sentence-transformers whose modules have weights, from the library and back to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_coldfuse
from folder_fusions import fuse
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer
from tiny_model import write_tiny_model

TEXTS = ["a good film", "the film was bad and very dull"]
WIDTH = 32


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two others, each a body, a pooling, a dense layer and a layer norm."""
    root = tmp_path_factory.mktemp("models")
    for seed in range(3):
        body = Transformer(str(write_tiny_model(root / f"body{seed}", seed=seed)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules = [body, Pooling(WIDTH), Dense(WIDTH, 8), LayerNorm(8)]
            SentenceTransformer(modules=modules, device="cpu").save(str(root / str(seed)))
    return [root / str(seed) for seed in range(3)]


def load(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def test_what_is_fused_is_loaded_and_lies_between_its_models(models: list[Path], tmp_path: Path) -> None:
    fuse(models[0], models[1:], tmp_path / "out")
    made, one, two = (load(folder).state_dict() for folder in (tmp_path / "out", *models[1:]))
    assert made.keys() == one.keys()
    for name, values in made.items():
        if values.is_floating_point():
            torch.testing.assert_close(values, (one[name] + two[name]) / 2)
    assert load(tmp_path / "out").encode(TEXTS).shape == (2, 8)


def test_a_published_model_gives_the_same_embeddings(models: list[Path], tmp_path: Path) -> None:
    run_coldfuse("init", tmp_path / "store", "--base", models[0], "--open").succeed()
    run_coldfuse("fetch", tmp_path / "store", "--out", tmp_path / "out").succeed()
    assert np.array_equal(load(tmp_path / "out").encode(TEXTS), load(models[0]).encode(TEXTS))


def test_a_body_alone_leaves_the_modules_as_they_are(models: list[Path], tmp_path: Path) -> None:
    fuse(models[0], [models[1].parent / "body1"], tmp_path / "out")
    made, base, body = (load(folder).state_dict() for folder in (tmp_path / "out", *models[:2]))
    for name in made:
        assert torch.equal(made[name], (base if name.startswith(("2.", "3.")) else body)[name])
