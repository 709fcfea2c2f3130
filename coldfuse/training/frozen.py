"""What frozen bodies make of texts, whichever base they are of; kept on the disk where there is a folder for it.

Shape letters: N texts, H features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.training.compute import pick_device
from coldfuse.training.encoding import Texts, encode_all, tokenize
from coldfuse.training.feature_cache import FeatureCache
from coldfuse.training.intake import find_intake
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.stopping import stoppable


class KnownTexts(Texts, Protocol):
    """Texts that are known by their digest."""

    def digest(self) -> str:
        """Return the digest of all that training sees."""


def _never() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Passing:
    """How texts pass through frozen bodies."""

    max_length: int = 128
    """Tokens of a text that are read; the model's own limit applies as well."""
    device: str = "auto"
    """Device: `cpu`, `cuda`, or `auto` for a GPU where there is one."""
    threads: int | None = None
    """Processor threads that are at work, which decide the last bits; None: torch's choice."""
    cache: FeatureCache | None = None
    """Where features are kept; None: nowhere."""
    stop: Callable[[], bool] = _never
    """Asked before each batch; once it says True, `StoppedEarlyError` is raised."""

    def features(self, folder: Path, digest: str, texts: KnownTexts) -> Tensor:
        """Return what a model's body makes of texts, shape (N, H), float32 on the CPU; from the cache if it is there.

        Args:
            folder: The model's folder.
            digest: Digest of what is in it.
            texts: The texts.

        Raises:
            UserInputError: The folder holds no model that takes texts, or the cache cannot be written.
        """
        if self.cache is None:
            return self.through(folder, texts).cpu().float()
        decisive = [
            "features", digest, texts.digest(), self.max_length, self.threads, str(pick_device(self.device)),
            str(torch.__version__),
        ]  # fmt: skip
        return self.cache.get(sha256(canonical_json(decisive)), lambda: self.through(folder, texts))

    def through(self, folder: Path, texts: Texts) -> Tensor:
        """Have texts pass through a model's body. Raises `UserInputError` for a folder without one that takes them."""
        body = load_body(folder).to(pick_device(self.device))
        tokenizer = load_tokenizer(folder)
        tokens = tokenize(tokenizer, texts, find_intake(body, tokenizer, max_length=self.max_length))
        with stoppable(body, self.stop):
            return encode_all(body, tokens)
