"""Options on what is asked of a fused model before it is published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

_PANEL = "What a fused model must show before it is published (the gate)"

_GATE = typer.Option(
    help="Evaluate what was fused before it is published: not-worse (than its base, on any suite, by more than the "
    "margin), better (and better over all suites), or off. A new federation: off.",
    rich_help_panel=_PANEL,
)
_MARGIN = typer.Option(help="Loss that is accepted on a suite: 0.01 is one point of a hundred.", rich_help_panel=_PANEL)
_ALPHA = typer.Option(
    help="Share of rounds at most in which a model that is not worse is stopped, whatever the number of suites (0.05).",
    rich_help_panel=_PANEL,
)
_RESOLUTION = typer.Option(
    help="Loss beyond the margin that the examples of all suites must be able to show; else there is not enough data "
    "(0.03).",
    rich_help_panel=_PANEL,
)
_WAIT = typer.Option(help="Wait so long for evaluators (10m).", rich_help_panel=_PANEL)
_ON_UNSURE = typer.Option(
    help="Where there is not enough data, or one member alone would decide: publish, or keep the base.",
    rich_help_panel=_PANEL,
)
_ON_SILENCE = typer.Option(
    help="Where too few evaluators answer in time: publish, or keep the base.", rich_help_panel=_PANEL
)
_EVALUATORS = typer.Option(help="Evaluators whose answers make a decision (1).", rich_help_panel=_PANEL)
_TO_STOP = typer.Option(
    help="Members who must see a loss before it stops a model (2); 1: each of them alone can stop the federation. The "
    "operator's own suites always can.",
    rich_help_panel=_PANEL,
)
_ON_ONE = typer.Option(
    help="What the word of an evaluator does whom none can second, as fewer than --gate-to-stop answer. warn: its "
    "examples count where it finds nothing; where it alone sees a loss, the release is out all the same, called "
    "disputed, and the channel stable begins to wait anew (--stable-after), as after a rollback. So one member stops "
    "and hides nothing, but can hold up stable, which promote moves. --gate-to-stop 1 gives each a veto instead: one "
    "that lies, or is broken, then stops the federation. ignore: there is never enough data. A new gate: warn.",
    rich_help_panel=_PANEL,
)
_MAX_MISSED = typer.Option(
    metavar="N|never",
    help="Do not wait for evaluators who left so many rounds in a row unanswered (3); they count, and are waited for "
    "again, as soon as they answer. never: wait for all, always. A new gate: 3.",
    rich_help_panel=_PANEL,
)
_ASKS = typer.Option(
    help="How often one validation set is asked at most (4), in --gate-per-rounds rounds.", rich_help_panel=_PANEL
)
_PER_ROUNDS = typer.Option(help="Rounds for which --gate-asks holds (1).", rich_help_panel=_PANEL)
_NOISE = typer.Option(
    help="Scale of the noise that members add to their counts, in examples (0: none).", rich_help_panel=_PANEL
)
_EFFICACY = typer.Option(
    help="Share of an edit's own prompts that must say what it wants, where somebody has --suite NAME:edit=FILE (0.9).",
    rich_help_panel=_PANEL,
)
_GENERALITY = typer.Option(help="The same of its paraphrases (0.5).", rich_help_panel=_PANEL)
_SUITES = typer.Option(help="Suites that one member may answer for (16).", rich_help_panel=_PANEL)
_WEIGHT = typer.Option(
    help="What a suite counts beside others, which count 1: NAME=2; 0: nothing. As often as needed; all that were "
    "given before are replaced.",
    rich_help_panel=_PANEL,
)


@dataclass(frozen=True, kw_only=True)
class GateWords:
    """What a fused model must show before it is published, as an operator writes it; None: not spoken of."""

    gate: Annotated[Literal["off", "not-worse", "better"] | None, _GATE] = None
    gate_margin: Annotated[float | None, _MARGIN] = None
    gate_alpha: Annotated[float | None, _ALPHA] = None
    gate_resolution: Annotated[float | None, _RESOLUTION] = None
    gate_wait: Annotated[str | None, _WAIT] = None
    gate_on_unsure: Annotated[Literal["publish", "keep"] | None, _ON_UNSURE] = None
    gate_on_silence: Annotated[Literal["publish", "keep"] | None, _ON_SILENCE] = None
    gate_evaluators: Annotated[int | None, _EVALUATORS] = None
    gate_to_stop: Annotated[int | None, _TO_STOP] = None
    gate_on_one: Annotated[Literal["warn", "ignore"] | None, _ON_ONE] = None
    gate_max_missed: Annotated[str | None, _MAX_MISSED] = None
    gate_asks: Annotated[int | None, _ASKS] = None
    gate_per_rounds: Annotated[int | None, _PER_ROUNDS] = None
    gate_noise: Annotated[float | None, _NOISE] = None
    gate_suites: Annotated[int | None, _SUITES] = None
    gate_efficacy: Annotated[float | None, _EFFICACY] = None
    gate_generality: Annotated[float | None, _GENERALITY] = None
    gate_weight: Annotated[list[str], _WEIGHT] = field(default_factory=list)
