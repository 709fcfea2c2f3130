"""Every family takes part: a tiny model of each is trained by two contributors, fused in a round, and loaded again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import KINDS, build
from safetensors.torch import load_file
from tiny_pictures import write_captions, write_image_processor, write_pictures
from tiny_rounds import lead
from tiny_texts import PROVERBS, VOCABULARY_SIZE, write_text_tokenizer

import coldfuse
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.check import check_base
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import TrainingJob
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.task import DataRequest

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

SETTINGS = TrainingSettings(num_epochs=1, batch_size=4, learning_rate=1e-3, device="cpu", threads=1, max_length=32)
_TEXTS = {"vocab_size": VOCABULARY_SIZE, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_HALVES = _TEXTS | {"decoder_start_token_id": 0}


@dataclass(frozen=True)
class Family:
    """A class of transformers, and the task that its contributors train."""

    kind: str
    """Name of the class whose model is the base."""
    task: str
    """Line of the task; "" where none fits, and the model is trained in a plain loop."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the tiny model, besides those of `architectures`."""
    ends: tuple[str, str] = ("<s>", "</s>")
    """What the tokenizer puts around a text."""


FAMILIES = {
    "BERT": Family("BertForMaskedLM", "fill-mask"),
    "RoBERTa": Family("RobertaForSequenceClassification", "text-classification"),
    "ELECTRA": Family("ElectraForPreTraining", "text-classification"),
    "ALBERT": Family("AlbertForMaskedLM", "fill-mask"),
    "DeBERTa-v3": Family("DebertaV2ForTokenClassification", "token-classification"),
    "XLM-R": Family("XLMRobertaModel", "question-answering"),
    "ModernBERT": Family("ModernBertForMaskedLM", "token-classification"),
    "GPT-2": Family("GPT2LMHeadModel", "text-generation", ends=("", "")),
    "Llama": Family("LlamaForCausalLM", "text-generation", ends=("<s>", "")),
    "Qwen": Family("Qwen3ForCausalLM", "text-generation", ends=("", "")),
    "Gemma": Family("Gemma2ForCausalLM", "instructions", ends=("<s>", "")),
    "Mixtral": Family("MixtralForCausalLM", "text-generation", ends=("<s>", "")),
    "T5": Family("T5ForConditionalGeneration", "text2text-generation", ends=("", "</s>")),
    "ViT": Family("ViTForImageClassification", "image-classification"),
    "CLIP": Family("CLIPModel", "contrastive-image-text"),
    "Whisper": Family("WhisperForConditionalGeneration", ""),
}


def write_base(folder: Path, family: Family) -> Path:
    """Write the family's tiny model, with its tokenizer and its image processor."""
    kind = KINDS[family.kind]
    own: dict[str, Any] = dict(kind.settings)
    if "text_config" in own:
        own["text_config"] = own["text_config"] | _TEXTS
    elif "vocab_size" in own:
        own |= _HALVES if "decoder_start_token_id" in own else _TEXTS
    transformers.utils.logging.disable_progress_bar()
    build(replace(kind, settings=own)).save_pretrained(folder)
    write_text_tokenizer(folder, starts_with=family.ends[0], ends_in=family.ends[1])
    return write_image_processor(folder, size=8)


def rows(first: int) -> Iterator[dict[str, Any]]:
    """Yield rows that every text task finds its own in; every contributor has others."""
    for number, proverb in enumerate(PROVERBS[first : first + 12]):
        words = proverb.split()
        yield {
            "text": proverb, "label": number % 2, "tokens": words, "tags": ["B-X", *["O"] * (len(words) - 1)],
            "question": "What is first?", "context": proverb, "answers": {"text": [words[0]], "answer_start": [0]},
            "instruction": "Say a proverb.", "output": proverb, "source": words[0], "target": " ".join(words[1:3]),
            "messages": [{"role": "user", "content": "Say one."}, {"role": "assistant", "content": proverb}],
        }  # fmt: skip


COLUMNS: dict[str, tuple[str, ...]] = {
    "text-classification": ("text", "label"), "fill-mask": ("text",), "token-classification": ("tokens", "tags"),
    "question-answering": ("question", "context", "answers"), "text-generation": ("text",),
    "instructions": ("instruction", "output"), "text2text-generation": ("source", "target"),
}  # fmt: skip
"""Columns of each text task's data."""


def write_data(folder: Path, task: str, first: int) -> Path:
    """Write a contributor's data for a task."""
    folder.mkdir(parents=True)
    if task == "image-classification":
        return write_pictures(folder / "pictures", num=4, first=first)
    if task == "contrastive-image-text":
        return write_captions(folder / "pictures", num=8, first=first)
    lines = [json.dumps({name: row[name] for name in COLUMNS[task]}) for row in rows(first)]
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines))
    return path


def trained(base: Path, task: str, data: Path) -> Mapping[str, torch.Tensor]:
    """Fine-tune as a node does; return what is shared, by the names of the base's files."""
    model, made = open_checkpoint(base), find_task(task)
    examples = made.read(DataRequest(data=data))
    job = TrainingJob(
        base_dir=base, base_digest=model.digest(), schema_names=set(model.schema), round=1, train=examples,
        validation=examples, task=made,
    )  # fmt: skip
    return fine_tune(job, SETTINGS).tensors


def trained_plainly(base: Path, seed: int) -> Any:
    """Train a model of sounds for two steps, in a loop of its owner's."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(base).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    sounds = torch.randn(2, 8, 40, generator=generator)
    for _ in range(2):
        model(input_features=sounds, labels=torch.tensor([[5, 6, 7], [8, 9, 3]])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_two_contributors_make_a_release_that_its_own_class_loads(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    base = write_base(tmp_path / "base", family)
    rules = {"quorum": 2, "deadline_s": 600.0}
    held = create_federation(
        LocalStore(tmp_path / "store"), name="family", base=base, origin=name, method="mean", rules=rules
    )
    lead(held)
    sent = []
    with coldfuse.connect(tmp_path / "store") as federation:
        folder = federation.fetch(tmp_path / "fetched").path
        for seed, contributor in enumerate(("ada", "bob")):
            if family.task:
                data = write_data(tmp_path / contributor, family.task, 12 * seed)
                sent.append(trained(folder, family.task, data))
            else:
                sent.append(trained_plainly(folder, seed).state_dict())
            federation.contribute(sent[-1], num_examples=12, name=contributor, base=folder, wait=False)
        lead(held)
        release = federation.fetch(tmp_path / "release")
    assert release.manifest.release == 1
    before, after = stored(base), stored(release.path)
    assert {tensor: values.shape for tensor, values in before.items()} == {
        tensor: values.shape for tensor, values in after.items()
    }
    moved = {tensor for tensor in before if not before[tensor].equal(after[tensor])}
    assert len(moved) > len(before) / 2
    own = getattr(transformers, family.kind)
    loaded, info = own.from_pretrained(release.path, output_loading_info=True)
    assert type(loaded).__name__ == family.kind
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    if family.task:
        assert_mean(before, after, sent)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder's files."""
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def assert_mean(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], sent: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Hold the release against the mean of what was trained."""
    assert all(set(model) <= set(before) for model in sent)
    for name in set(sent[0]) & set(sent[1]):
        wanted = sum(model[name].double() for model in sent) / len(sent)
        assert torch.allclose(after[name].double(), wanted, atol=1e-6), name


def test_the_experts_of_a_mixture_are_many_tensors_on_disk_and_none_is_private(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", FAMILIES["Mixtral"])
    assert any(".experts.3." in name for name in stored(base))
    assert check_base(base).remarks == ()
    loaded = find_task("text-generation").load(base, None, SETTINGS)
    assert loaded.processor.private == ()
