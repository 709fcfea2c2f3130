"""Numbers that are kept from run to run, as JSON: accuracies by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

Accuracies = dict[str, float]


class Kept:
    """A file of accuracies; what is missing is computed, and written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Accuracies] = json.loads(path.read_bytes()) if path.exists() else {}

    def get(self, key: str, compute: Callable[[], Accuracies]) -> Accuracies:
        """Return what is kept under the key, or compute it."""
        if key not in self._known:
            self._known[key] = compute()
            staging = self._path.with_suffix(f".part-{os.getpid()}")
            staging.write_text(json.dumps(self._known, indent=1))
            os.replace(staging, self._path)
        return self._known[key]
