"""Statistics of every kind of task, against autograd, example by example."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_pictures import write_captions, write_image_processor, write_pictures, write_seeing_model
from tiny_texts import rows_of, write_json_lines, write_text_model, write_text_tokenizer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.job import TrainingSettings
from coldfuse.training.model import stored_names_in
from coldfuse.training.swag import NUM_SNAPSHOTS, weight_variance
from coldfuse.training.task_statistics import Wish, estimate, shapes_of
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.task import DataRequest, TaskModel

SETTINGS = TrainingSettings(num_epochs=1, batch_size=4, learning_rate=1e-3, device="cpu", threads=1, max_length=32)
TEXTS = {
    "token-classification": "headless bert", "question-answering": "roberta", "fill-mask": "bert",
    "text-generation": "llama", "text2text-generation": "t5",
}  # fmt: skip


def loaded_task(root: Path, name: str) -> tuple[TaskModel, list, dict[str, str]]:
    """Return a task's model, a few features, and the base's names of its parameters."""
    task = find_task(name)
    if name == "image-classification":
        base, data = (
            write_seeing_model(root / "base", "ViTForImageClassification"),
            write_pictures(root / "data", num=3),
        )
    elif name == "contrastive-image-text":
        base, data = write_clip(root / "base"), write_captions(root / "data")
    else:
        base = write_text_model(root / "base", TEXTS[name])
        data = write_json_lines(root / "data.jsonl", rows_of(name)[:6])
    examples = task.read(DataRequest(data=data))
    torch.manual_seed(0)
    loaded = task.load(base, examples, SETTINGS)
    features = list(task.encode(loaded, examples))
    task.start_head(loaded, task.encode(loaded, examples))
    return loaded, features[:6], stored_names_in(loaded.model, loaded.shared_part, open_checkpoint(base).schema.keys())


def write_clip(folder: Path) -> Path:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=sizes | {"vocab_size": 200, "max_position_embeddings": 64, "eos_token_id": 3, "bos_token_id": 2},
        vision_config=sizes | {"image_size": 32, "patch_size": 8}, projection_dim=16,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    write_text_tokenizer(folder, starts_with="<s>", ends_in="</s>")
    write_image_processor(folder, size=32)
    return folder


def naive_fisher(loaded: TaskModel, features: list, names: dict[str, str]) -> dict[str, Tensor]:
    loaded.model.eval()
    totals = {own: torch.zeros_like(p) for own, p in loaded.model.named_parameters() if own in names}
    for feature in features:
        loaded.model.zero_grad()
        loaded.model(**loaded.collate([feature])).loss.backward()
        for own, parameter in loaded.model.named_parameters():
            if own in names and parameter.grad is not None:
                totals[own] += parameter.grad.to_dense() ** 2
    loaded.model.zero_grad()
    return {names[own]: total / len(features) for own, total in totals.items()}


def naive_grams(loaded: TaskModel, features: list, names: dict[str, str]) -> dict[str, Tensor]:
    """Run one example at a time, which needs no padding."""
    rows: dict[str, list[Tensor]] = {}
    own_names = {id(p): name for name, p in loaded.model.named_parameters()}
    handles = []
    for module in loaded.model.modules():
        if isinstance(module, nn.Linear):
            seen = rows.setdefault(own_names[id(module.weight)], [])
            keep = partial(_keep_inputs, seen)
            handles.append(module.register_forward_pre_hook(keep))
    loaded.model.eval()
    with torch.no_grad():
        for feature in features:
            loaded.model(**loaded.collate([feature]))
    for handle in handles:
        handle.remove()
    found = {name: torch.cat(some).double() for name, some in rows.items() if some and name in names}
    return {names[name]: (x.T @ x / len(x)).float() for name, x in found.items()}


def _keep_inputs(seen: list[Tensor], _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    seen.append(inputs[0].detach().flatten(0, -2))


@pytest.mark.parametrize("name", [*TEXTS, "image-classification"])
def test_fisher_and_grams_of_a_task_are_those_of_its_loss_and_its_layers(tmp_path: Path, name: str) -> None:
    loaded, features, names = loaded_task(tmp_path, name)
    was = {own: p.detach().clone() for own, p in loaded.model.named_parameters()}
    fisher = estimate(loaded, features, names, Wish(kind="fisher", estimator="empirical"))
    grams = estimate(loaded, features, names, Wish(kind="gram"))
    for found, expected in (
        (fisher.tensors, naive_fisher(loaded, features, names)), (grams.tensors, naive_grams(loaded, features, names)),
    ):  # fmt: skip
        assert found.keys() == expected.keys()
        for tensor, values in expected.items():
            scale = float(values.abs().max()) or 1.0
            torch.testing.assert_close(found[tensor] / scale, values / scale, rtol=1e-3, atol=1e-5, msg=tensor)
    assert (fisher.estimator, fisher.num_examples, grams.estimator) == ("empirical", len(features), "inputs")
    assert all(torch.equal(p, was[own]) and p.grad is None and p.requires_grad for own, p in _own(loaded))
    shapes = shapes_of(loaded, names, "gram")
    assert {n: tuple(t.shape) for n, t in grams.tensors.items()}.items() <= shapes.items()


def _own(loaded: TaskModel) -> list[tuple[str, nn.Parameter]]:
    return list(loaded.model.named_parameters())


def test_a_classification_of_few_classes_gets_the_exact_fisher(tmp_path: Path) -> None:
    loaded, features, names = loaded_task(tmp_path, "image-classification")
    assert estimate(loaded, features, names, Wish(kind="fisher")).estimator == "exact"


def test_what_has_no_labels_of_one_kind_has_no_exact_fisher(tmp_path: Path) -> None:
    loaded, features, names = loaded_task(tmp_path, "fill-mask")
    with pytest.raises(UserInputError, match="exact Fisher information is for tasks with one label an example"):
        estimate(loaded, features, names, Wish(kind="fisher", estimator="exact"))


def test_a_loss_that_compares_examples_has_no_fisher_but_grams(tmp_path: Path) -> None:
    loaded, features, names = loaded_task(tmp_path, "contrastive-image-text")
    with pytest.raises(UserInputError, match="compares examples with each other"):
        estimate(loaded, features, names, Wish(kind="fisher"))
    assert estimate(loaded, features, names, Wish(kind="gram")).tensors


def test_the_variance_is_that_of_the_snapshots_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    loaded, features, names = loaded_task(tmp_path, "text-generation")
    was = {own: p.detach().clone() for own, p in _own(loaded)}
    snapshots: list[dict[str, Tensor]] = []
    made = weight_variance(
        loaded, features, names, settings=SETTINGS,
        on_step=lambda _done, _total: snapshots.append({n: p.detach().double().clone() for n, p in _own(loaded)}),
    )  # fmt: skip
    assert (len(snapshots), made.count) == (NUM_SNAPSHOTS, NUM_SNAPSHOTS)
    for own, stored in names.items():
        expected = torch.stack([snapshot[own] for snapshot in snapshots]).var(dim=0, unbiased=False)
        torch.testing.assert_close(made.tensors[stored].double(), expected, rtol=1e-2, atol=1e-12)
    assert all(torch.equal(p, was[own]) for own, p in _own(loaded))
