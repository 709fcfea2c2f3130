"""The survey: architectures × {a full fine-tune, a LoRA in, an adapter out}, in numbers.

    python tests/survey.py        writes tests/benchmarks/results/architectures_YYYYMM.md

Each cell is the largest error of an element, relative to the largest of its tensor: of full fine-tunes, against the
mean of two models in float64; of a LoRA, against PEFT's own merge; of an adapter, what PEFT merges into the base,
against the fused model.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from architectures import KINDS, Kind, build, fine_tuned, save
from safetensors.torch import load_file

from coldfuse import fuse

RANK = 16
"""Rank of the adapters that are made: that of the tiny models' matrices, so that nothing but rounding is lost."""

State = Mapping[str, np.ndarray]


def full_fine_tune(kind: Kind, folder: Path) -> float:
    """Fuse two models by their mean, and hold the stored tensors against float64."""
    base = save(build(kind), folder / "base")
    models = [save(fine_tuned(kind, seed=seed), folder / f"model{seed}") for seed in (1, 2)]
    fuse(base, models, out=folder / "out")
    loads_whole(kind, folder / "out")
    theta, *others = (stored(path) for path in (base, *models))
    made = stored(folder / "out")
    assert made.keys() == theta.keys()
    return error(
        made, {name: values + sum(other[name] - values for other in others) / 2 for name, values in theta.items()}
    )


def lora_in(kind: Kind, folder: Path) -> float:
    """Fuse a LoRA into its base, and hold the model that loads against PEFT's merge."""
    from peft import LoraConfig, get_peft_model

    base = save(build(kind), folder / "base")
    settings = LoraConfig(r=3, target_modules=kind.lora_targets, init_lora_weights=False)
    tuned = get_peft_model(build(kind), settings)
    tuned.save_pretrained(str(folder / "adapter"))
    fuse(base, [folder / "adapter"], out=folder / "out")
    return error(state(loads_whole(kind, folder / "out")), state(tuned.merge_and_unload()))


def adapter_out(kind: Kind, folder: Path) -> float:
    """Make an adapter of a fine-tuned model, and hold what PEFT makes of it against that model, layer by layer."""
    from peft import PeftModel

    tuned = fine_tuned(kind, seed=1)
    base = save(build(kind), folder / "base")
    fuse(base, [save(tuned, folder / "model")], out=folder / "out", kind="adapter", rank=RANK)
    factored = {name.partition(".lora_")[0] for name in load_file(folder / "out" / "adapter_model.safetensors")}
    assert factored, "no layer has factors"
    merged = state(PeftModel.from_pretrained(build(kind), str(folder / "out")).merge_and_unload())
    names = {f"{module.removeprefix('base_model.model.')}.weight" for module in factored}
    wanted, before = state(tuned), state(build(kind))
    low_rank = {name for name in names if min(before[name].reshape(len(before[name]), -1).shape) <= RANK}
    assert low_rank
    return error({name: merged[name] for name in low_rank}, {name: wanted[name] for name in low_rank})


WAYS: Mapping[str, Callable[[Kind, Path], float]] = {
    "full fine-tune": full_fine_tune, "LoRA in": lora_in, "adapter out": adapter_out,
}  # fmt: skip


def loads_whole(kind: Kind, folder: Path) -> Any:
    """Load a model, and insist that no tensor is missing."""
    model, report = getattr(transformers, kind.name).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"], report["missing_keys"]
    return model


def stored(folder: Path) -> State:
    """Return all tensors of a folder, by the names in its file, as float64."""
    return {name: tensor.double().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


def state(model: Any) -> State:
    """Return all tensors of a model in memory, as float64."""
    return {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}


def error(got: State, want: State) -> float:
    """Return the largest error of an element, relative to the largest element of its tensor."""
    return max(
        float(np.abs(got[name] - values).max(initial=0.0) / max(np.abs(values).max(initial=0.0), 1.0))
        for name, values in want.items()
    )


def main() -> None:
    """Run the survey and write its table."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    rows = ["| architecture | " + " | ".join(WAYS) + " |", "|---|" + "---|" * len(WAYS)]
    for kind in KINDS.values():
        cells = []
        for way in WAYS.values():
            with tempfile.TemporaryDirectory() as folder:
                cells.append(cell(way, kind, Path(folder)))
        rows.append(f"| {kind.name} | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    now = datetime.now(UTC)
    head = (
        f"# {len(KINDS)} architectures, tiny and random, in float32\n\n{__doc__}\n"
        f"transformers {version('transformers')}, PEFT {version('peft')}, torch {version('torch')}.\n\n"
    )
    path = Path(__file__).parent / "benchmarks" / "results" / f"architectures_{now:%Y%m}.md"
    path.write_text(head + "\n".join(rows) + "\n")


def cell(way: Callable[[Kind, Path], float], kind: Kind, folder: Path) -> str:
    """Return a cell's error, or what was said instead."""
    try:
        return f"{way(kind, folder):.0e}"
    except Exception as problem:  # noqa: BLE001 - a survey says what it met
        return f"{type(problem).__name__}: {problem}".replace("|", "/").replace(str(folder), "")[:160]


if __name__ == "__main__":
    sys.exit(main())
