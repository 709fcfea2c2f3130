"""A federation under load, or methods under attack."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from coldfuse.cli.bench import count_of
from coldfuse.cli.options.simulation import SimulateOptions
from coldfuse.cli.recipe import recipe_of, require_federated
from coldfuse.cli.simulate_view import load_lines
from coldfuse.cli.units import parse_duration
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.simulation.attacks import ATTACKS
from coldfuse.simulation.load import LoadSettings, simulate_load
from coldfuse.simulation.plan import Crowd, parse_faults
from coldfuse.simulation.servers import Aggregation

_USUAL_ATTACKS = ("sign-flip",)
_USUAL_CONTRIBUTORS = 100


def simulate(options: SimulateOptions) -> None:
    """Run what was asked for, and print what was found."""
    for name in options.attack:
        if name not in ATTACKS:
            raise UserInputError(f"--attack {name}: expected one of {', '.join(ATTACKS)}")
    if options.real.data:
        from coldfuse.cli.simulate_attacks import simulate_attacks  # torch comes with it

        simulate_attacks(options)
    else:
        _simulate_load(options)


def _simulate_load(options: SimulateOptions) -> None:
    settings = _settings(options)
    report = simulate_load(settings, lambda line: typer.echo(line, err=True))
    if options.as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        typer.echo("\n".join(load_lines(report)))
    if not report.is_whole:
        raise ColdfuseError(
            f"a promise was broken: {report.audit.num_without_verdict} acknowledged contributions without a verdict, "
            f"{report.audit.num_with_two} with two, rounds not closed in time: "
            f"{[found.number for found in report.rounds if not found.in_time] or 'none'}"
        )


def _settings(options: SimulateOptions) -> LoadSettings:
    load = options.load
    if len(options.method) > 1:
        raise UserInputError("--method: one at a time, unless --data is given")
    if load.shared_delta and load.screening != "off":
        raise UserInputError("--shared-delta: copies are rejected; give --screening off, too")
    method, deadline_s = (options.method or ["mean"])[0], parse_duration(load.deadline)
    crowd = Crowd(
        num_contributors=options.contributors or _USUAL_CONTRIBUTORS, faults=parse_faults(options.faults),
        attacks=tuple(options.attack) or _USUAL_ATTACKS, train_s=parse_duration(load.train) if load.train else 0.0,
        deadline_s=deadline_s, seed=options.seed,
    )  # fmt: skip
    settings = LoadSettings(
        crowd=crowd, num_rounds=load.rounds, store=load.store, method=method, quorum=load.quorum,
        grace_s=parse_duration(load.grace) if load.grace else 0.0, late=load.late,
        num_parameters=count_of(load.parameters), num_gateways=load.gateways, shared_delta=load.shared_delta,
        clients=load.clients,
        screening=ScreeningRules(is_on=load.screening == "strict"),
        aggregation=Aggregation(num_workers=load.workers, on_ray=not load.threads),
    )  # fmt: skip
    require_federated(recipe_of(method), quorum=settings.rules.quorum)
    return settings
