"""Tiny models that see, each a complete folder with its processor; and pictures that they can learn to tell apart."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from architectures import KINDS, build
from PIL import Image

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
