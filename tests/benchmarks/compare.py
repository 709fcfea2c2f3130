"""Whole commands `coldfuse fuse` of one or two checkouts, in turns on the same models, beside a bound in C and peers.

    python tests/benchmarks/compare.py OLD NEW --folder /tmp/models --cases tiny,minilm,qwen-0.5b --methods mean,ties

Every program is a process of its own, start-up and all, and all inputs lie in the page cache after the first round,
which is not counted. A ratio is a program's time over that of the first checkout in the same round. Models are kept in
the folder, and taken from there the next time: 9.7 GB for all three cases, and the fused model beside them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from coldfuse.experiments.bench_fuse import Program, Run, Spread, run_program
from coldfuse.experiments.bench_models import WEIGHTS, ModelSet, llama, make_models, minilm

HERE = Path(__file__).resolve().parent
CASES = {
    "tiny": (lambda: minilm(30_000), "F32", 2),
    "minilm": (minilm, "F32", 8),
    "qwen-0.5b": (llama, "BF16", 8),
}
"""Shape, dtype and number of models."""

MERGES = {
    "mean": ("linear", {}),
    "ties": ("ties", {"density": 0.2}),
    "dare then mean": ("dare_linear", {"density": 0.5}),
    "breadcrumbs then mean": ("breadcrumbs", {"density": 0.15, "gamma": 0.006}),
}
"""mergekit's method, and the parameters of each model. It ranks within tensors, and calculates in their dtype."""


def main(words: list[str] | None = None) -> None:
    args = parse(words)
    bound = compile_bound(args.folder / "bound")
    if bound is None:
        print("no C compiler here: the bound is left out")
    for number, checkout in enumerate(args.checkouts):
        print(f"{'AB'[number]} is {checkout} {revision(checkout)}")
    for case in args.cases.split(","):
        make, dtype, num_models = CASES[case]
        shape = make()
        made = make_models(args.folder / f"{case}-{dtype}", shape, dtype=dtype, num_models=num_models)
        for method in args.methods.split(","):
            programs = programs_of(args, made, method, dtype, bound)
            print(
                f"\n{case}, {method}: {shape.num_parameters / 1e6:.2f}M {dtype} × {num_models}, "
                f"{made.input_bytes / 1e9:.2f} GB, {args.workers} threads, {args.runs} runs",
                flush=True,
            )
            show(in_turns(programs, args.runs, args.folder / "out"))


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, help="one or two folders that hold coldfuse/")
    parser.add_argument("--folder", type=Path, required=True, help="keeps the models")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--methods", default="mean,ties", help="recipes, separated by commas")
    parser.add_argument("--runs", type=int, default=5, help="counted rounds; one more warms up")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--torch", action="store_true", help="measure a plain loop in torch, too: mean and ties")
    parser.add_argument("--mergekit", type=Path, help="measure mergekit, too: the path of its mergekit-yaml")
    args = parser.parse_args(words)
    args.checkouts = [checkout.resolve() for checkout in args.checkouts]
    args.folder = args.folder.resolve()
    if len(args.checkouts) > 2 or not all((checkout / "coldfuse").is_dir() for checkout in args.checkouts):
        parser.error("expected one or two checkouts, folders that hold coldfuse/")
    if unknown := [case for case in args.cases.split(",") if case not in CASES]:
        parser.error(f"{unknown[0]}: expected cases of {', '.join(CASES)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    return args


def programs_of(args: argparse.Namespace, made: ModelSet, method: str, dtype: str, bound: Path | None) -> list[Program]:
    out, models = args.folder / "out", [made.base, *made.models]
    words = [*models, "--out", out, "--method", method, "--workers", args.workers]
    found = [
        Program(name="AB"[number], command=ours(words), environment={**os.environ, "PYTHONPATH": str(checkout)})
        for number, checkout in enumerate(args.checkouts)
    ]
    if bound is not None and dtype in ("F32", "BF16"):
        found += [
            Program(name=f"C: {name}", command=bound_command(bound, name, dtype, args.workers, out, made))
            for name in ("read", *({method} & {"mean", "ties"}))
        ]
    if args.torch and method in ("mean", "ties"):
        peer = [sys.executable, HERE / "torch_peer.py", method, args.workers, out, *models]
        found.append(Program(name="torch", command=list(map(str, peer))))
    if args.mergekit and method in MERGES:
        found.append(Program(name="mergekit", command=mergekit(args.mergekit, method, dtype, args.workers, out, made)))
    return found


def in_turns(programs: list[Program], num_runs: int, out: Path) -> dict[str, list[Run]]:
    """Run one program after the other, A B A B, so that what else the machine does meets all of them."""
    runs = {program.name: [] for program in programs}
    for number in range(num_runs + 1):
        for program in programs:
            remove(out)
            found = run_program(program)
            if number:
                runs[program.name].append(found)
    remove(out)
    return runs


def remove(out: Path) -> None:
    """Remove a fused model: a folder, or the one file that the bound writes."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)


def ours(words: list) -> list[str]:
    return [sys.executable, "-P", "-m", "coldfuse", "fuse", *map(str, words)]


def compile_bound(path: Path) -> Path | None:
    """Compile the C program for this machine. None: there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    options = ["-O3", "-march=native", "-ffast-math", "-fno-strict-aliasing", "-pthread"]
    subprocess.run([compiler, *options, HERE / "bound.c", "-o", path, "-lm"], check=True)
    return path


def bound_command(bound: Path, name: str, dtype: str, workers: int, out: Path, made: ModelSet) -> list[str]:
    files = [folder / WEIGHTS for folder in (made.base, *made.models)]
    return list(map(str, [bound, name, dtype, workers, out, *files]))


def mergekit(executable: Path, method: str, dtype: str, workers: int, out: Path, made: ModelSet) -> list[str]:
    name, parameters = MERGES[method]
    models = [{"model": str(model), "parameters": {"weight": 1.0, **parameters}} for model in made.models]
    dtypes = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    config = {"merge_method": name, "models": models, "dtype": dtypes[dtype], "parameters": {"normalize": True}}
    if name != "linear":
        config["base_model"] = str(made.base)
    path = out.with_name("mergekit.yaml")
    path.write_text(json.dumps(config))  # JSON is YAML
    options = ["--no-copy-tokenizer", "--no-write-model-card", "--quiet", "--num-threads", workers]
    return list(map(str, [executable, path, out, *options]))


def show(runs: dict[str, list[Run]]) -> None:
    print(f"  {'program':<9}{'wall s':>24}{'cpu s':>24}{'peak MiB':>22}{'wall of A':>20}{'cpu of A':>20}")
    for name, found in runs.items():
        spreads = [Spread.of([getattr(run, field) for run in found]) for field in ("wall_s", "cpu_s", "peak_mib")]
        ratios = [
            Spread.of(
                [getattr(run, field) / getattr(first, field) for run, first in zip(found, runs["A"], strict=True)]
            )
            for field in ("wall_s", "cpu_s")
        ]
        wall, cpu = map(str, spreads[:2])
        memory = f"{spreads[2].median:.0f} ({spreads[2].min:.0f}–{spreads[2].max:.0f})"
        print(f"  {name:<9}{wall:>24}{cpu:>24}{memory:>22}{ratios[0]!s:>20}{ratios[1]!s:>20}", flush=True)
    if "B" in runs:
        a, b = ({run.last_line for run in runs[name]} for name in "AB")
        print(f"  A and B make the same: {a.pop()}" if a == b and len(a) == 1 else f"  DIFFERENT: A {a}, B {b}")


def revision(checkout: Path) -> str:
    command = ["git", "-C", checkout, "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    return found.stdout.strip() or "(no repository)"


if __name__ == "__main__":
    main()
