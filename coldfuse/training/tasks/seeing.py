"""Models that see: load them with the processor beside them, batch pictures, and look at what they make of them.

Shape letters: B examples of a batch, N of all, L patches of a picture, H hidden features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from coldfuse.errors import UserInputError
from coldfuse.extras import requiring
from coldfuse.naming.building import failures, offline, quiet
from coldfuse.training.compute import native_autocast, pick_device
from coldfuse.training.failures import failures_of, first_line
from coldfuse.training.head import fit_linear_probe
from coldfuse.training.loading import load_tokenizer, load_with_head
from coldfuse.training.model import Classified
from coldfuse.training.scoring import scoring_batches
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.models import pad
from coldfuse.training.tasks.pictures import Picture
from coldfuse.training.tasks.scoring import affordable_tokens, run_over
from coldfuse.training.tasks.task import Feature, TaskModel

_USUAL_PATCHES = 256
_FEWEST_TOKENS = 4
_MOST_SIMILARITIES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class PictureProcessor:
    """Makes a model's arguments of pictures."""

    images: Any
    """The image processor of the base."""
    num_patches: int
    """What one picture costs, in tokens."""

    def pixels(self, features: Sequence[Feature]) -> Tensor:
        """Decode the pictures of a batch, and bring them to the size and scale that the model was made for."""
        pictures: list[Any] = [feature["picture"] for feature in features]
        opened = [picture.open() for picture in pictures]
        try:
            made: Tensor = self.images(images=opened, return_tensors="pt")["pixel_values"]
        except failures() as error:
            first = pictures[0].place
            raise UserInputError(
                f"{first}: {type(self.images).__name__} cannot take it: {first_line(error)}"
            ) from error
        return made


@dataclass(frozen=True, kw_only=True)
class PairProcessor(PictureProcessor):
    """The same for pictures with texts."""

    tokenizer: Any
    """The tokenizer of the base."""
    max_length: int
    """Tokens of a text that are read."""
    pad_to: int | None
    """Tokens to which every text is padded, for a model that reads padding; None: to the longest of its batch."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        with quiet():
            ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        return [list(row) for row in ids]


class PictureClassifier(nn.Module):
    """A shared body and a private linear head on the mean of its last hidden states."""

    def __init__(self, body: nn.Module, num_classes: int, num_features: int, *, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return what the body makes of pictures, shape (B, H)."""
        return picture_features(self.body, pixel_values)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Classified:
        """Return loss and logits of a batch."""
        features = self.features(pixel_values)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.head(self.dropout(features.float()))
            return Classified(None if labels is None else cross_entropy(logits, labels), logits)


class TwoTowers(nn.Module):
    """A model of pictures and texts, asked for its own loss."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, **batch: Tensor) -> Any:
        """Return the model's output, whose `loss` is contrastive over the batch."""
        return self.body(**batch, return_loss=True)


def picture_features(body: Any, pixel_values: Tensor) -> Tensor:
    """Return the mean of a body's last hidden states over a picture's patches, shape (B, H)."""
    seeing = getattr(body, "vision_model", body)  # of a model of pictures and texts, the one that sees
    states = seeing(pixel_values=pixel_values).last_hidden_state
    if states.ndim == 4:  # (B, H, height, width), as convolutions make it
        return torch.as_tensor(states).flatten(2).mean(dim=2)
    return torch.as_tensor(states).mean(dim=1)


def load_picture_classifier(base_dir: Path, *, num_classes: int, settings: TrainingSettings) -> TaskModel:
    """Load the body of a base that sees, put a linear head of zeros on it, and try it on a grey picture.

    Args:
        base_dir: The base's folder, with the configuration of its image processor.
        num_classes: Rows of the head.
        settings: How much is dropped before the head, and where it is tried.

    Raises:
        UserInputError: The folder holds no model that takes pictures, or no image processor.
    """
    body, images = load_seeing_body(base_dir), load_image_processor(base_dir)
    body = body.to(pick_device(settings.device))
    processor = PictureProcessor(images=images, num_patches=1)
    pixels = processor.pixels([{"picture": Grey()}]).to(next(body.parameters()).device)
    with torch.no_grad(), failures_of(body, "on a grey picture"):
        num_features = picture_features(body.eval(), pixels).shape[1]
    processor = PictureProcessor(images=images, num_patches=_num_patches(body, pixels))
    model = PictureClassifier(body, num_classes, num_features, dropout=settings.dropout)
    return TaskModel(model=model, body=body, processor=processor, collate=partial(_labelled, processor=processor))


def load_seeing_body(base_dir: Path) -> nn.Module:
    """Load the body of a base that takes pictures; raises `UserInputError` for one that does not."""
    body = load_with_head(base_dir, "AutoModel")
    inputs = getattr(getattr(body, "vision_model", body), "main_input_name", None)
    if inputs != "pixel_values":
        raise UserInputError(
            f"{base_dir}: {type(body).__name__} takes {inputs}, expected a model of pictures such as ViT or ConvNeXt"
        )
    return body


def load_image_processor(base_dir: Path) -> Any:  # transformers is untyped
    """Load the image processor beside the model; raises `UserInputError` where there is none."""
    from transformers import AutoImageProcessor

    loader: Any = AutoImageProcessor
    with requiring("reading pictures", "data", at_once=("PIL",)), quiet(), offline():
        try:
            return loader.from_pretrained(base_dir, local_files_only=True, trust_remote_code=False)
        except failures() as error:
            raise UserInputError(
                f"{base_dir}: no image processor in it; expected preprocessor_config.json beside the model, which "
                "model.save_pretrained alone does not write; put it there with processor.save_pretrained"
                f'("{base_dir}"); {first_line(error)}'
            ) from error


def load_two_towers(base_dir: Path, settings: TrainingSettings) -> TaskModel:
    """Load a base of pictures and texts with its tokenizer and image processor.

    Raises:
        UserInputError: The folder holds no such model, or not all that belongs to it.
    """
    body: Any = load_with_head(base_dir, "AutoModel")
    if not all(hasattr(body, tower) for tower in ("vision_model", "text_model")):
        raise UserInputError(
            f"{base_dir}: {type(body).__name__} has no two towers, expected a model of pictures and texts such as CLIP"
        )
    tokenizer, images = load_tokenizer(base_dir), load_image_processor(base_dir)
    text = body.config.text_config
    limit = min(settings.max_length, text.max_position_embeddings, max(int(tokenizer.model_max_length), _FEWEST_TOKENS))
    reads_padding = "siglip" in str(body.config.model_type)  # trained without a mask, on texts of the full length
    pixels = PictureProcessor(images=images, num_patches=1).pixels([{"picture": Grey()}])
    processor = PairProcessor(
        images=images, num_patches=_num_patches(body, pixels), tokenizer=tokenizer, max_length=limit,
        pad_to=int(text.max_position_embeddings) if reads_padding else None,
    )  # fmt: skip
    return TaskModel(
        model=TwoTowers(body), body=body, processor=processor, collate=partial(_paired, processor=processor),
        is_divisible=False,
    )  # fmt: skip


class Grey(Picture):
    """A picture of one grey, to try a model on."""

    def __init__(self) -> None:
        super().__init__(place="a grey picture", path=None)

    def open(self) -> Any:
        """Return the picture."""
        from PIL import Image

        return Image.new("RGB", (64, 64), (128, 128, 128))


@torch.no_grad()
def probe_pictures(loaded: TaskModel, features: Sequence[Feature]) -> None:
    """Make the head of a classifier of pictures the linear probe of its body."""
    model: Any = loaded.model
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    inputs, labels = [], []
    for indices, batch in scoring_batches(loaded, features, tokens_at_once=affordable_tokens(model)):
        with native_autocast(device), failures_of(model.body, f"on {len(indices)} pictures"):
            inputs.append(model.features(batch["pixel_values"]).float())
        labels.append(batch["labels"])
    head = fit_linear_probe(torch.cat(inputs), torch.cat(labels), num_classes=model.head.out_features)
    model.head.weight.copy_(head.weight)
    model.head.bias.copy_(head.bias)
    model.train(was_training)


def retrieval_accuracy(
    loaded: TaskModel, features: Sequence[Feature], *, texts: Sequence[str], pictures: Sequence[str]
) -> float:
    """Return the mean share of pictures whose nearest text is theirs, and of texts whose nearest picture is.

    Args:
        loaded: The model.
        features: Pictures and texts, pair by pair.
        texts: The text of each pair: texts that are written alike are the same.
        pictures: The digest of each picture.
    """
    order: list[int] = []
    seen, read = [], []
    for indices, _, output in run_over(loaded, features):
        order += indices
        seen.append(output.image_embeds.float())
        read.append(output.text_embeds.float())
    image_NH, text_NH = torch.cat(seen), torch.cat(read)
    own_texts, own_pictures = [texts[i] for i in order], [pictures[i] for i in order]
    nearest_text, nearest_picture = _nearest(image_NH, text_NH), _nearest(text_NH, image_NH)
    num_right = sum(own_texts[row] == own_texts[found] for row, found in enumerate(nearest_text))
    num_right += sum(own_pictures[row] == own_pictures[found] for row, found in enumerate(nearest_picture))
    return num_right / max(2 * len(order), 1)


def _nearest(of_NH: Tensor, among_NH: Tensor) -> list[int]:
    """Return the row of the second with the largest cosine to each row of the first; they are of length one."""
    rows_at_once = max(1, _MOST_SIMILARITIES // len(among_NH))
    found: list[int] = []
    for start in range(0, len(of_NH), rows_at_once):
        found += (of_NH[start : start + rows_at_once] @ among_NH.T).argmax(dim=1).tolist()
    return found


def _num_patches(body: Any, pixels: Tensor) -> int:
    """Return how many tokens a picture is to the model, by its configuration."""
    config = getattr(body.config, "vision_config", body.config)
    size = getattr(config, "patch_size", None)
    if not isinstance(size, int) or size < 1:
        return _USUAL_PATCHES
    return max(1, (pixels.shape[-1] // size) * (pixels.shape[-2] // size))


def _labelled(features: Sequence[Feature], *, processor: PictureProcessor) -> dict[str, Tensor]:
    labels = torch.tensor([feature["labels"] for feature in features])
    return {"pixel_values": processor.pixels(features), "labels": labels}


def _paired(features: Sequence[Feature], *, processor: PairProcessor) -> dict[str, Tensor]:
    rows: list[Any] = [feature["input_ids"] for feature in features]
    batch = {"pixel_values": processor.pixels(features)}
    batch["input_ids"] = pad(rows, int(processor.tokenizer.pad_token_id), to=processor.pad_to)
    if processor.pad_to is None:
        batch["attention_mask"] = pad([[1] * len(row) for row in rows], 0)
    return batch
