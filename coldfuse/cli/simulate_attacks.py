"""Methods against attacks on real data, from the command line."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from coldfuse.api.places import resolve_model
from coldfuse.cli.data_words import columns_of
from coldfuse.cli.options.simulation import SimulateOptions
from coldfuse.cli.recipe import recipe_of
from coldfuse.cli.simulate_view import attack_lines
from coldfuse.data.dataset import TextDataset
from coldfuse.data.reading import read_dataset
from coldfuse.experiments.adversaries import try_attacks
from coldfuse.experiments.adversary_parties import Cast, gather
from coldfuse.experiments.demo import bundled_base
from coldfuse.experiments.demo_data import SAMPLES
from coldfuse.experiments.fusion_training import Training
from coldfuse.simulation.attacks import ATTACKS
from coldfuse.simulation.plan import parse_faults

_USUAL_METHODS = ("mean", "median", "geometric-median", "clip then mean")
_USUAL_CONTRIBUTORS = 8
_MAX_LENGTH, _LEARNING_RATE = 48, 2e-4


def simulate_attacks(options: SimulateOptions) -> None:
    """Let every method meet every attack."""
    real = options.real
    methods = options.method or list(_USUAL_METHODS)
    for line in methods:
        recipe_of(line)
    count = options.contributors or _USUAL_CONTRIBUTORS
    cast = Cast(
        num_contributors=count, num_hostile=round(parse_faults(options.faults).malicious * count),
        num_examples=real.examples, seed=options.seed,
        training=Training(num_epochs=real.epochs, learning_rate=_LEARNING_RATE, max_length=_MAX_LENGTH),
    )  # fmt: skip
    base = resolve_model(real.base) if real.base else bundled_base()
    with ExitStack() as stack:
        work = real.work or Path(stack.enter_context(TemporaryDirectory(prefix="simulate-")))
        trial = try_attacks(
            gather(_read(options), base, work, cast), attacks=options.attack or list(ATTACKS), methods=methods,
            threads=real.torch_threads, callback=lambda line: typer.echo(line, err=True),
        )  # fmt: skip
    typer.echo(json.dumps(asdict(trial), indent=2) if options.as_json else "\n".join(attack_lines(trial)))


def _read(options: SimulateOptions) -> TextDataset:
    """Read the files, or a bundled sample if there is no file of that name."""
    data = options.real.data
    samples = {task.name: task.train_file for task in SAMPLES}
    if len(data) == 1 and data[0] in samples and not Path(data[0]).exists():
        return read_dataset(samples[data[0]])
    return read_dataset(data, **columns_of(options.real.columns))
