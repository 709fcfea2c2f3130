"""The demonstration's command."""

from __future__ import annotations

from pathlib import Path

import typer

from coldfuse.errors import UserInputError


def demo(
    out: Path | None = typer.Option(None, help="A new folder for everything; coldfuse-demo by default."),
    fast: bool = typer.Option(False, "--fast", help="Fewer examples: about a minute instead of a few."),
    base: str | None = typer.Option(
        None, help="Another base: a model folder or hub id; the bundled MiniLM by default."
    ),
    seed: int = typer.Option(0, help="Decides split, order and dropout at every contributor."),
) -> None:
    """Run a whole federation on this machine: a gateway, a Ray aggregator, four contributors with real, different data.

    Needs no network. Shows how the shared model improves, and leaves it in a folder.

    Example: coldfuse demo --fast
    """
    from rich.console import Console

    from coldfuse.cli.source import resolve_model
    from coldfuse.config import prepare_training
    from coldfuse.experiments.demo_data import DEFAULT, FAST, TASKS

    out = out or _free_folder()
    if out.exists() and not out.is_dir():
        raise UserInputError(f"{out}: a file; give a new folder with --out")
    if out.exists() and any(out.iterdir()):
        raise UserInputError(f"{out}: not empty; give a new folder with --out")
    console = Console()
    prepare_training()
    from coldfuse.experiments.demo import Demo, bundled_base, run_demo
    from coldfuse.experiments.demo_view import DemoView

    run = Demo(
        out=out, base=resolve_model(base) if base else bundled_base(), settings=FAST if fast else DEFAULT, seed=seed
    )
    seen, unseen = [t.name for t in TASKS if t.is_seen], [t.name for t in TASKS if not t.is_seen]
    console.print(f"contributors: {', '.join(seen)}; nobody has: {', '.join(unseen)}; everything lies in {out}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be made: {error.strerror}; give another folder with --out") from error
    with DemoView(console, tuple(seen)) as view:
        results = run_demo(run, view)
    results.write(out / "results.json")
    results.plot(out / "results.png")
    console.print(results.table())
    _say_what_next(out, results.rounds[-1].model_digest, results.seconds)


def _say_what_next(out: Path, digest: str, seconds: float) -> None:
    lines = [
        f"took {seconds:.0f} s; the same as JSON and as a plot: {out / 'results.json'}, {out / 'results.png'}",
        f"the fused model: {out / 'model'}",
        "",
        'load it:        python -c "from transformers import AutoModel, AutoTokenizer; '
        f"m = AutoModel.from_pretrained('{out / 'model'}'); t = AutoTokenizer.from_pretrained('{out / 'model'}')\"",
        f"its history:    coldfuse releases {out / 'federation'}",
        f"go on with it:  coldfuse serve {out / 'federation'} --listen 127.0.0.1:7700",
        "                coldfuse contribute 127.0.0.1:7700 --data YOUR.csv --name you",
        "                coldfuse fetch 127.0.0.1:7700 --out ./model",
        f"digest {digest}",
    ]
    for line in lines:
        typer.echo(line)


def _free_folder() -> Path:
    names = ["coldfuse-demo", *(f"coldfuse-demo-{number}" for number in range(2, 1000))]
    return next(Path(name) for name in names if not Path(name).exists())
