"""Tiny models that see, each a complete folder with its processor; and pictures that they can learn to tell apart."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from architectures import KINDS, build
from PIL import Image
from tiny_texts import write_text_tokenizer
from transformers import CLIPConfig, CLIPModel

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def write_seeing_model(folder: Path, kind: str) -> Path:
    """Write a random model of that class of `architectures.KINDS`, with an image processor."""
    build(KINDS[kind]).save_pretrained(folder)
    return write_image_processor(folder, size=KINDS[kind].settings.get("image_size") or 8)


def write_image_processor(folder: Path, *, size: int) -> Path:
    """Write the image processor of a model for pictures of that size."""
    settings: Mapping[str, Any] = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": size, "width": size},
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": True,
        "rescale_factor": 1 / 255,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def write_clip(folder: Path) -> Path:
    """Write a random CLIP with its tokenizer and image processor."""
    text = {"vocab_size": 200, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 32, "bos_token_id": 2, "eos_token_id": 3,
            "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
              "image_size": 8, "patch_size": 4}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    write_text_tokenizer(folder, starts_with="<s>", ends_in="</s>")
    return write_image_processor(folder, size=8)


def picture(colour: str, seed: int, *, size: int = 12) -> Image.Image:
    """Return a noisy picture of one colour."""
    noise = random.Random(seed)
    image = Image.new("RGB", (size, size))
    image.putdata([tuple(part + noise.randint(-30, 30) for part in COLOURS[colour]) for _ in range(size * size)])
    return image


def write_pictures(folder: Path, *, num: int = 6, colours: tuple[str, ...] = ("red", "blue"), first: int = 0) -> Path:
    """Write a folder for each colour with so many pictures of it."""
    for colour in colours:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + num):
            ending = ("png", "jpg", "bmp")[number % 3]
            picture(colour, number).save(folder / colour / f"{number}.{ending}")
    return folder


def write_captions(folder: Path, *, num: int = 8, first: int = 0) -> Path:
    """Write pictures with a list that has a text for each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file_name,caption"]
    for number in range(first, first + num):
        colour = list(COLOURS)[number % len(COLOURS)]
        picture(colour, number).save(folder / f"{number}.png")
        lines.append(f"{number}.png,a {colour} picture")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder
