"""Hand-over to EleutherAI's lm-evaluation-harness: its tasks, its prompts, its metrics; nothing of them is made here.

`lm-eval:NAME` is a task of the harness, `lm-eval:FILE.yaml` one that its user has written. What a task's metric gives
for each document is how models are compared, as with any other data.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.errors import MissingExtraError, UserInputError
from coldfuse.evaluation.measured import Measured

PREFIX = "lm-eval:"
"""What stands before a task of the harness."""

_YAML = (".yaml", ".yml")
_TASK = re.compile(r"""^task:[ \t]*["']?([\w.+-]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE)
_MOST_YAML_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class HarnessTask:
    """A task of the harness, in the place of test examples."""

    name: str
    """Its name, or a YAML file."""
    limit: int | None = None
    """Documents that are scored, at most."""
    report: None = None
    """Nothing was read yet."""

    def __len__(self) -> int:
        """Return 0: how many documents there are, the harness knows when it has run."""
        return 0

    def digest(self) -> str:
        """Return the digest of what decides the documents: the task, the harness's version, and how many."""
        own = sha256(_read(Path(self.name))) if self.name.endswith(_YAML) else None
        return sha256(canonical_json([self.name, own, self.limit, version_of_harness()]))


def version_of_harness() -> str:
    """Return the harness's version. Raises `MissingExtraError` where it is not installed."""
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise MissingExtraError(
            "--suite lm-eval:… needs lm_eval, which is not installed: pip install 'coldfuse[lm-eval]'", name="lm_eval"
        ) from None


def run_harness(folder: Path, task: HarnessTask, *, threads: int, device: str, max_length: int) -> dict[str, Measured]:
    """Score a causal language model by a task of the harness; of a group, by each of its tasks.

    Args:
        folder: The model's folder; no code of its own is run.
        task: The task.
        threads: Processor threads.
        device: cpu, cuda or auto.
        max_length: Tokens of the window.

    Raises:
        MissingExtraError: The harness is not installed.
        UserInputError: There is no such task, or the model or the task's data cannot be used.
    """
    version_of_harness()
    import lm_eval
    import torch
    from lm_eval.tasks import TaskManager

    from coldfuse.training.compute import reproducible  # torch comes with the first task that is scored

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    with reproducible(seed=0, device=device, threads=threads):
        try:
            results = lm_eval.simple_evaluate(
                model="hf",
                model_args={
                    "pretrained": str(folder), "dtype": "float32", "trust_remote_code": False, "max_length": max_length,
                },
                tasks=[_named(task.name)], limit=task.limit, device=place, batch_size=8, bootstrap_iters=0,
                task_manager=TaskManager(include_path=str(Path(task.name).parent))
                if task.name.endswith(_YAML) else TaskManager(), log_samples=True,
            )  # fmt: skip
        except Exception as error:  # the harness, its tasks and their data may raise anything
            raise UserInputError(
                f"{PREFIX}{task.name}: lm-evaluation-harness failed: {type(error).__name__}: {_first_line(error)}; see "
                "that it has such a task (lm_eval ls tasks), and that its data can be had"
            ) from error
    return dict(_measured(results))


def _named(name: str) -> str:
    """Return the name of a task; of a file, the one that it says."""
    if not name.endswith(_YAML):
        return name
    match = _TASK.search(_read(Path(name)).decode("utf-8", "replace"))
    if match is None:
        raise UserInputError(f"{name}: expected a task of lm-evaluation-harness, with its name under `task`")
    return match[1]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_YAML_BYTES)
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _measured(results: Mapping[str, Any]) -> Iterator[tuple[str, Measured]]:
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = results["samples"]
    for name in sorted(samples):
        metric, filtered, value = _first_metric(results["results"][name])
        higher = bool(results.get("higher_is_better", {}).get(name, {}).get(metric, True))
        own = sorted((s for s in samples[name] if s.get("filter", filtered) == filtered), key=lambda s: s["doc_id"])
        yield (
            name if len(samples) > 1 else "",
            Measured(
                value=value, outcomes=_outcomes(own, metric, higher=higher), metric=metric, higher_is_better=higher
            ),
        )


def _first_metric(result: Mapping[str, Any]) -> tuple[str, str, float]:
    """Return a task's first metric, its filter and its value."""
    for key, value in result.items():
        metric, comma, filtered = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float) and math.isfinite(value):
            return metric, filtered, float(value)
    raise UserInputError("the harness gives no number for this task: the model's weights may be broken")


def _outcomes(samples: Sequence[Mapping[str, Any]], metric: str, *, higher: bool) -> tuple[float, ...] | None:
    """Return what the metric says of each document; None where it says nothing of a single one."""
    values = [sample.get(metric) for sample in samples]
    if not values or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return tuple(float(value) if higher else -float(value) for value in values if value is not None)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]
