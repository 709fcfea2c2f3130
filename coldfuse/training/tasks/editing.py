"""Models that are asked for answers: how likely each is, and the loss of an edit.

Shape letters: B rows of a batch, L tokens of the longest, V tokens or classes, K places that predict a token of an
answer, R of them in rows that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.job import TrainingSettings
from coldfuse.training.loading import load_with_head
from coldfuse.training.model import Classified
from coldfuse.training.tasks.asking import Asker, Way, classified, continued, filled
from coldfuse.training.tasks.blocks import surroundings
from coldfuse.training.tasks.edit_rows import EditRow
from coldfuse.training.tasks.models import collate, load_language_model
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import run_over
from coldfuse.training.tasks.task import Feature, TaskModel

_HEADS = {
    "ForCausalLM": "AutoModelForCausalLM", "LMHeadModel": "AutoModelForCausalLM", "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForMaskedLM", "ForSequenceClassification": "AutoModelForSequenceClassification",
}  # fmt: skip
"""Transformers' class for a base, by how the name of its own class ends."""


@dataclass(frozen=True)
class Answered:
    """What a model thinks of a row's answer."""

    is_right: bool
    """Whether it is likelier than all rivals; without rivals, whether the model would write it."""
    probability: float
    """Its share of what it and the likeliest rival have together; without rivals its own probability, by the token."""


def load_edited(base_dir: Path, settings: TrainingSettings) -> TaskModel:
    """Load a base that answers by itself.

    Raises:
        UserInputError: Its class has no head that answers, or its files lack it.
    """
    auto_class = _class_of(base_dir)
    loaded = load_language_model(base_dir, auto_class, settings)
    if loaded.processor.private:
        raise UserInputError(
            f"{base_dir}: its files lack the head that answers, so it says nothing that could be edited; take a base "
            "that was saved with its head"
        )
    tokenizer, intake = loaded.processor.tokenizer, loaded.processor.intake
    if auto_class == "AutoModelForMaskedLM" and tokenizer.mask_token_id is None:
        raise UserInputError(f"{base_dir}: its tokenizer has no mask token, so that no gap can be filled")
    asks = {"AutoModelForCausalLM": continued, "AutoModelForMaskedLM": filled}.get(auto_class, classified)
    before, after = surroundings(tokenizer)
    asker = Asker(
        tokenizer=tokenizer, before=before, after=after, size=intake.max_length,
        classes=_classes(base_dir, loaded.model, loaded.processor.filler) if asks is classified else {},
    )  # fmt: skip

    def reference() -> nn.Module:
        model: Any = load_with_head(base_dir, auto_class)
        model.config.pad_token_id = loaded.shared_part.config.pad_token_id  # type: ignore[union-attr]
        return model  # type: ignore[no-any-return]

    return TaskModel(
        model=Edited(loaded.model, reference), body=loaded.model,
        processor=replace(loaded.processor, model=Way(asker, asks)),
        collate=partial(
            _collate, filler=loaded.processor.filler, pad_to=intake.pad_to, is_class=asks is classified
        ),
    )  # fmt: skip


def _class_of(base_dir: Path) -> str:
    names = open_checkpoint(base_dir).config.get("architectures")
    named = str(names[0])[:200] if isinstance(names, list) and names else ""
    found = next((auto_class for end, auto_class in _HEADS.items() if named.endswith(end)), None)
    if found is None:
        raise UserInputError(
            f"{base_dir}: a {named or 'model whose config.json names no class'} has no head that answers, as heads "
            "of tasks stay with those who trained them; an edit needs a base that writes (ForCausalLM), fills gaps "
            "(ForMaskedLM) or classifies with a head of its own (ForSequenceClassification)"
        )
    return found


def _classes(base_dir: Path, model: Any, filler: int) -> dict[str, int]:
    """Return the numbers of a classifier's classes by their names."""
    if model.config.num_labels < 2 or model.config.problem_type == "multi_label_classification":
        raise UserInputError(f"{base_dir}: it does not choose between classes, so that no answer of it can be edited")
    if model.config.pad_token_id is None:  # a decoder looks for a text's last token before those
        model.config.pad_token_id = filler
    return {str(name): int(number) for number, name in model.config.id2label.items()}


class Edited(nn.Module):
    """A model and, where something is kept, the base as it was, beside which it is held."""

    def __init__(self, model: nn.Module, reference: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.model = model
        self._reference: list[nn.Module] = []  # in a list: it is no part of what is trained
        self._load = reference

    def train(self, mode: bool = True) -> Self:
        """Train without dropout: it would move what is kept before anything is changed."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, weights: Tensor | None = None,
        is_kept: Tensor | None = None,
    ) -> Classified:  # fmt: skip
        """Return the loss, where the rows have weights, and the logits, shape (B, L, V)."""
        logits_BLV = _logits(self.model, input_ids, attention_mask)
        if weights is None or is_kept is None:
            return Classified(None, logits_BLV)
        there_BL = labels != NO_LABEL
        row_K = there_BL.nonzero()[:, 0]
        logp_KV = logits_BLV[there_BL].float().log_softmax(-1)
        loss_K = -logp_KV.gather(1, labels[there_BL][:, None])[:, 0]
        if bool(is_kept.any()):
            with torch.no_grad():
                base_RLV = _logits(self._base(input_ids.device), input_ids[is_kept], attention_mask[is_kept])
                base_RV = base_RLV[there_BL[is_kept]].float().log_softmax(-1)
            kept_K = is_kept[row_K]
            divergence_R = (base_RV.exp() * (base_RV - logp_KV[kept_K])).sum(-1)  # MEND, equation 4b
            loss_K = loss_K.masked_scatter(kept_K, divergence_R)
        return Classified((weights[row_K] * loss_K).mean(), logits_BLV)

    def _base(self, device: torch.device) -> nn.Module:
        if not self._reference:
            self._reference.append(self._load().requires_grad_(requires_grad=False).eval().to(device))
        return self._reference[0]

    @property
    def config(self) -> Any:
        """Configuration of the model."""
        return self.model.config

    def get_input_embeddings(self) -> nn.Module:
        """Return the model's embedding of tokens."""
        table: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return table


def _logits(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the logits, shape (B, L, V); of a classifier (B, 1, V)."""
    logits: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).logits
    return logits if logits.dim() == 3 else logits[:, None]


def _asked(loaded: TaskModel, prompt: str, answer: str) -> dict[str, object]:
    way: Way = loaded.processor.model
    ids, labels = way.ask(way.asker, prompt, answer)
    if not any(label != NO_LABEL for label in labels):
        raise UserInputError("an answer has no token that the tokenizer knows, so that nobody can be asked for it")
    loaded.processor.require_rows(max(ids))
    return {"input_ids": ids, "labels": labels, "length": len(ids)}


def features_of(loaded: TaskModel, rows: Sequence[EditRow], *, locality: float) -> list[Feature]:
    """Return a feature for each row; both parts of the loss are means: over the edits, and over what is kept."""
    asked = [_asked(loaded, row.prompt, row.answer) for row in rows]
    counts = [sum(label != NO_LABEL for label in feature["labels"]) for feature in asked]  # type: ignore[attr-defined]
    num_kept = sum(count for count, row in zip(counts, rows, strict=True) if row.kind == "keep")
    num_edited = sum(counts) - num_kept
    of_kept, of_edited = (sum(counts) / max(num, 1) for num in (num_kept, num_edited))
    return [
        {**feature, "is_kept": row.kind == "keep", "weight": locality * of_kept if row.kind == "keep" else of_edited}
        for feature, row in zip(asked, rows, strict=True)
    ]


def _collate(features: Sequence[Feature], *, filler: int, pad_to: int | None, is_class: bool) -> dict[str, Tensor]:
    fillers = {"input_ids": filler} if is_class else {"input_ids": filler, "labels": NO_LABEL}
    batch = collate(features, fillers=fillers, pad_to=pad_to)
    if is_class:
        batch["labels"] = torch.tensor([feature["labels"] for feature in features])
    if "weight" in features[0]:
        batch["weights"] = torch.tensor([feature["weight"] for feature in features])
        batch["is_kept"] = torch.tensor([feature["is_kept"] for feature in features])
    return batch


@torch.no_grad()
def answers_of(loaded: TaskModel, rows: Sequence[EditRow]) -> list[Answered]:
    """Return what the model thinks of each row's answer."""
    features: list[Feature] = []
    places: list[list[int]] = []
    for row in rows:
        asked = [_asked(loaded, row.prompt, answer) for answer in (row.answer, *row.rivals)]
        places.append(list(range(len(features), len(features) + len(asked))))
        features += asked
    nats, greedy = [math.nan] * len(features), [False] * len(features)
    for indices, batch, output in run_over(loaded, features):
        there_BL = batch["labels"] != NO_LABEL
        logits_KV, label_K, row_K = output.logits[there_BL].float(), batch["labels"][there_BL], there_BL.nonzero()[:, 0]
        logp_K = logits_KV.log_softmax(-1).gather(1, label_K[:, None])[:, 0]
        hit_K = logits_KV.argmax(-1) == label_K
        for place, index in enumerate(indices):
            own = row_K == place
            nats[index], greedy[index] = float(logp_K[own].mean()), bool(hit_K[own].all())
    return [_answered([nats[place] for place in own], is_greedy=greedy[own[0]]) for own in places]


def _answered(nats: Sequence[float], *, is_greedy: bool) -> Answered:
    """Judge an answer by its mean log-probability and those of its rivals; what is no number is never right."""
    own, rivals = nats[0], nats[1:]
    if any(math.isnan(each) for each in nats):
        return Answered(is_right=False, probability=0.0)
    if not rivals:
        return Answered(is_right=is_greedy, probability=math.exp(own))
    difference = own - max(rivals)
    share = 1 / (1 + math.exp(-difference)) if difference > -700 else 0.0
    return Answered(is_right=difference > 0, probability=share)
