"""The paper's experiments, and the base for them that is only pretrained."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import typer

from coldfuse.api.places import resolve_model
from coldfuse.cli.experiment import numbers
from coldfuse.cli.options.paper import Larger, PaperOptions, PretrainOptions
from coldfuse.durable import make_folder, write_whole
from coldfuse.errors import UserInputError
from coldfuse.experiments.demo import bundled_base
from coldfuse.experiments.paper import pretrain as pretraining
from coldfuse.experiments.paper.corpus import read_corpus
from coldfuse.experiments.paper.declared import EXPERIMENTS
from coldfuse.experiments.paper.figure import draw
from coldfuse.experiments.paper.results import as_lines, as_table
from coldfuse.experiments.paper.runner import Given, Ran, run
from coldfuse.experiments.paper.summary import summary
from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes


def experiment(options: PaperOptions) -> None:
    """Run an experiment, and leave its results in a folder."""
    chosen = _with_curves(EXPERIMENTS[options.experiment], options.curves)
    chosen = _with_contributors(chosen, options.larger.contributors)
    sizes = _sizes(chosen.sizes, options.larger, options.seeds)
    given = Given(
        data=options.data, base=resolve_model(options.base) if options.base else bundled_base(), work=options.work,
        sets=words(options.sets), unseen=words(options.unseen), threads=options.threads,
        discards=options.discard,
    )  # fmt: skip
    ran = run(chosen, sizes, given, tell=lambda line: typer.echo(line, err=True), only_kept=options.so_far)
    if not ran.rows:
        raise UserInputError(f"{options.work}: has no score of this experiment yet; leave --so-far out to make them")
    out = options.out or options.work / chosen.name
    text = summary(chosen, sizes, given, ran, command=shlex.join(["coldfuse", *sys.argv[1:]]))
    _write(out, chosen, ran, text)
    typer.echo("\n".join(as_lines(ran.rows) if options.as_json else as_table(ran.rows)))
    typer.echo(f"{out}: results.jsonl, summary.md, figure.png", err=True)


def _write(out: Path, chosen: Experiment, ran: Ran, text: Sequence[str]) -> None:
    make_folder(out)
    write_whole(out / "results.jsonl", "".join(f"{line}\n" for line in as_lines(ran.rows)).encode())
    write_whole(out / "summary.md", "".join(f"{line}\n" for line in text).encode())
    draw(ran.rows, chosen, out / "figure.png")


def pretrain(options: PretrainOptions) -> None:
    """Pretrain a base."""
    if options.hidden_size % 64:
        raise UserInputError(f"--hidden-size {options.hidden_size}: expected a multiple of 64")
    how = pretraining.Pretraining(
        layers=options.layers, hidden_size=options.hidden_size, vocabulary=options.vocabulary, block=options.block,
        batch=options.batch, epochs=options.epochs, learning_rate=options.learning_rate, seed=options.seed,
    )  # fmt: skip
    corpus = read_corpus(options.data, words(options.sets), words(options.leave_out))
    made = pretraining.pretrain(
        how, corpus=corpus, out=options.out, threads=options.threads, tell=lambda line: typer.echo(line, err=True)
    )
    typer.echo(str(made))


def _with_curves(chosen: Experiment, text: str | None) -> Experiment:
    if text is None:
        return chosen
    names = words(text, between=";")
    known = [*(variant.name for variant in chosen.variants), *chosen.baselines]
    if unknown := [name for name in names if name not in known]:
        raise UserInputError(f"--curves {unknown[0]}: {chosen.name} has {'; '.join(known)}")
    variants = [variant for variant in chosen.variants if variant.name in names]
    if not variants:
        raise UserInputError(f"--curves {text}: expected at least one that is no baseline")
    return replace(chosen, variants=variants, baselines=[name for name in chosen.baselines if name in names])


def _with_contributors(chosen: Experiment, num: int | None) -> Experiment:
    if num is None:
        return chosen
    kinds = {variant.contributors for variant in chosen.variants}
    if len({who.num for who in kinds}) > 1 or not all(isinstance(who, Sampled) for who in kinds):
        raise UserInputError(f"--contributors {num}: {chosen.name} says itself how many contribute; leave it out")
    return replace(
        chosen,
        variants=[replace(variant, contributors=replace(variant.contributors, num=num)) for variant in chosen.variants],
    )


def _sizes(usual: Sizes, larger: Larger, seeds: str | None) -> Sizes:
    given = {name: value for name, value in asdict(larger).items() if value is not None and name != "contributors"}
    return replace(usual, **given, seeds=tuple(numbers(seeds)) if seeds else usual.seeds)


def words(text: str | None, *, between: str = ",") -> list[str]:
    """Return what stands between commas."""
    found = [word.strip() for word in (text or "").split(between)]
    return [word for word in found if word]
