"""The demonstration's command."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from coldfuse.api.places import resolve_model
from coldfuse.cli.options.experiments import DemoOptions
from coldfuse.errors import UserInputError
from coldfuse.experiments.demo import Demo, bundled_base, run_demo
from coldfuse.experiments.demo_data import DEFAULT, FAST, HARMFUL, TASKS
from coldfuse.experiments.demo_view import DemoView


def demo(options: DemoOptions) -> None:
    """Run a whole federation on this machine."""
    out, base = options.out or _free_folder(), options.base
    if out.exists() and not out.is_dir():
        raise UserInputError(f"{out}: a file; give a new folder with --out")
    if out.exists() and any(out.iterdir()):
        raise UserInputError(f"{out}: not empty; give a new folder with --out")
    console = Console()
    run = Demo(
        out=out,
        base=resolve_model(base) if base else bundled_base(),
        settings=FAST if options.fast else DEFAULT,
        seed=options.seed,
    )
    seen, unseen = [t.name for t in TASKS if t.is_seen], [t.name for t in TASKS if not t.is_seen]
    console.print(
        f"contributors: {', '.join(seen)}; one whose labels are shuffled: {HARMFUL.name}; nobody has: "
        f"{', '.join(unseen)}; everything lies in {out}"
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be made: {error.strerror}; give another folder with --out") from error
    with DemoView(console, (*seen, HARMFUL.name)) as view:
        results = run_demo(run, view)
    results.write(out / "results.json")
    results.plot(out / "results.png")
    console.print(results.table())
    if results.left_out:
        console.print(results.left_out_table())
    for line in results.words():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    _say_what_next(out, results.rounds[-1].model_digest, results.seconds)


def _say_what_next(out: Path, digest: str, seconds: float) -> None:
    lines = [
        f"took {seconds:.0f} s; the same as JSON and as a plot: {out / 'results.json'}, {out / 'results.png'}",
        f"the fused model: {out / 'model'}",
        "",
        'load it:        python -c "from transformers import AutoModel, AutoTokenizer; '
        f"m = AutoModel.from_pretrained('{out / 'model'}'); t = AutoTokenizer.from_pretrained('{out / 'model'}')\"",
        f"its history:    coldfuse releases {out / 'federation'}",
        f"go on with it:  export COLDFUSE_HOME={out / 'keys' / 'operator'}  (in each terminal: the operator's keys)",
        f"                coldfuse serve {out / 'federation'} --listen 127.0.0.1:7700",
        f"                coldfuse enroll {out / 'federation'} you --address 127.0.0.1:7700 | coldfuse join -",
        "                coldfuse contribute 127.0.0.1:7700 --data YOUR.csv",
        "                coldfuse fetch 127.0.0.1:7700 --out ./model",
        f"digest {digest}",
    ]
    for line in lines:
        typer.echo(line)


def _free_folder() -> Path:
    names = ["coldfuse-demo", *(f"coldfuse-demo-{number}" for number in range(2, 1000))]
    return next(Path(name) for name in names if not Path(name).exists())
