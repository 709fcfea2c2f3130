"""Change the rules of a running federation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

import typer

from coldfuse.cli.channel_settings import soak_of, webhooks_of
from coldfuse.cli.closing import rules_of
from coldfuse.cli.gate import gate_of
from coldfuse.cli.holding import hold
from coldfuse.cli.keeping import retention_of
from coldfuse.cli.options.channels import ChannelChange
from coldfuse.cli.options.gate import GateWords
from coldfuse.cli.options.keep import KeepWords
from coldfuse.cli.options.operator import SetOptions
from coldfuse.cli.options.shared import RecipeChange, RecipeWords
from coldfuse.cli.recipe import line_of, recipe_of, require_federated, require_weighted
from coldfuse.cli.units import parse_duration
from coldfuse.cli.who import who
from coldfuse.config import home_folder
from coldfuse.core.federation import ChangeableSettings, FederationSettings
from coldfuse.core.names import Identity, shown
from coldfuse.core.round import RoundState
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.statistics import StatisticsRule
from coldfuse.engine.low_rank import require_shareable
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.state import outers_of
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.proposals import Document, arrange
from coldfuse.registry.settings import plan_change, read_settings, write_change
from coldfuse.storage import open_store
from coldfuse.tensors.checkpoint import Checkpoint, open_release


def change(options: SetOptions) -> None:
    """Change what was given, and say what that means for the rounds."""
    words = options.recipe
    closing = rules_of(options.closing)
    given = (
        options.name, options.quorum, options.deadline, options.screening, options.statistics, options.weighting,
        words.method, words.variant,
    )  # fmt: skip
    if all(value is None for value in given) and not (words.param or closing or _is_spoken_of(options)):
        raise typer.BadParameter(
            "say what to change: --quorum, --deadline, --close, --late, --method, --param, --variant, --screening, "
            "--statistics, --weighting, --gate, --stable-after, --webhook, --keep-releases, --name or another option"
        )
    store = open_store(options.store)
    before, etag = read_settings(store)
    called = Identity.of(options.name, what="--name") if options.name is not None else None
    method = _new_method(before, words)
    wanted = ChangeableSettings.model_construct(
        name=called.id if called else None,
        display_name=called.display_name if called else None,
        deadline_s=parse_duration(options.deadline) if options.deadline is not None else None,
        method=method,
        statistics=_new_statistics(before, method, options.statistics),
        screening=None if options.screening is None else ScreeningRules(is_on=options.screening == "strict"),
        gate=gate_of(options.gating, before.gate),
        soak=soak_of(options.channels),
        webhooks=webhooks_of(options.channels, before.webhooks or ()),
        weighting=options.weighting,
        retention=retention_of(options.keep, before.retention),
    ).model_copy(update={"quorum": options.quorum} | closing)  # checked, with the words for people, as it is written
    quorum = wanted.quorum or before.rules.quorum
    if wanted.method is not None or wanted.quorum is not None:
        recipe = read_recipe(wanted.method or before.method)
        require_federated(recipe, quorum=quorum, with_statistics=True)
    if wanted.method is not None or wanted.weighting is not None:
        require_weighted(read_recipe(wanted.method or before.method), wanted.weighting or before.weighting)
    federation = open_federation(store, home=home_folder())
    if wanted.method is not None or wanted.late is not None:
        late = wanted.late or before.rules.late
        require_shareable(_latest(federation), read_recipe(wanted.method or before.method), late)
    latest = federation.channel("latest").newest
    if before.root is None:
        after = write_change(store, before, etag, wanted, by=who(options.by), after_release=latest)
        _say(options, federation, before, after)
        return
    after = plan_change(before, wanted, by=who(options.by), after_release=latest)
    if after == before or _carry_out(options, after):
        _say(options, federation, before, after)


def _is_spoken_of(options: SetOptions) -> bool:
    """Tell whether the gate, channels, webhooks or what is kept are to be changed."""
    spoken = (options.gating, GateWords()), (options.channels, ChannelChange()), (options.keep, KeepWords())
    return any(words != nothing for words, nothing in spoken)


def _carry_out(options: SetOptions, after: FederationSettings) -> bool:
    """Sign the new settings; False where other operators have to sign them, too, which was said."""
    holding = hold(options.store, root=options.signing.root)
    signers = holding.signers("operator", options.signing)
    return holding.carry_out(arrange([Document.of("federation", after)]), signers)


def _new_statistics(
    settings: FederationSettings, method: str | None, presence: Literal["require", "optional"] | None
) -> StatisticsRule | None:
    """Return which statistics are asked for from now on; None if that is as it was."""
    kind = settings.statistics.kind if method is None else read_recipe(method).statistic or "none"
    rule = StatisticsRule(kind=kind, presence=presence or settings.statistics.presence)
    return None if rule == settings.statistics else rule


def _latest(federation: Federation) -> Checkpoint:
    return open_release(federation.store.url, federation.latest())


def _new_method(settings: FederationSettings, words: RecipeChange) -> str | None:
    """Return the line of the method; None if it is not to be changed, or is the same in other words."""
    if words.method is None and not words.param and words.variant is None:
        return None
    kept = _without(settings.method, [*words.param, *(["variant="] if words.variant else [])])
    line = RecipeWords(method=words.method or kept, param=words.param, variant=words.variant)
    recipe = recipe_of(line.method, line.param, line.variant)
    return None if recipe == read_recipe(settings.method) else line_of(recipe, line)


def _without(line: str, params: Sequence[str]) -> str:
    """Return a recipe's line without these parameters: what is given beside a line would not count against it."""
    for param in params:
        key = re.escape(param.partition("=")[0].strip())
        line = re.sub(rf"(?<![\w-])(?:{key})\s*=[^,()]*(?:,\s*)?", "", line)
    return line


def _say(options: SetOptions, federation: Federation, before: FederationSettings, after: FederationSettings) -> None:
    change = after.change if after != before else None
    number = federation.current_round()
    state = federation.journal(number).state()
    holds_from = number if state.opened is None or state.opened.terms == after.terms else number + 1
    notes = _consequences(federation, before, after) if change else []
    if options.as_json:
        changed = _as_json(change.old, change.new) if change else {}
        document: dict[str, object] = {"changed": changed, "holds_from_round": holds_from, "notes": notes}
        if change:
            document |= {"number": change.number, "by": change.by, "changed_at_s": change.changed_at_s}
        typer.echo(json.dumps(document))
        return
    if change is None:
        name = shown(after.name, after.display_name)
        typer.echo(f"nothing to change: {name} in {options.store} has {after.changeable} already")
        return
    typer.echo(f"changed {shown(before.name, before.display_name)} in {options.store}: {change}")
    if after.terms != before.terms:
        typer.echo(f"holds from round {holds_from} on{_until_then(state, number) if holds_from > number else ''}")
    for note in notes:
        typer.echo(f"note: {note}")


def _until_then(state: RoundState, number: int) -> str:
    if state.opened is not None and len(state.admitted) == len(state.opened.carried):
        return f"; round {number}, in which nothing new was admitted, makes way for it"
    return f"; round {number} is under way and keeps its rules"


def _as_json(old: ChangeableSettings, new: ChangeableSettings) -> dict[str, object]:
    was = old.model_dump()
    return {name: {"old": was.get(name), "new": value} for name, value in new.model_dump(exclude_none=True).items()}


def _consequences(federation: Federation, before: FederationSettings, after: FederationSettings) -> list[str]:
    """Say what is lost by another method: the outer steps' memory means nothing to other steps."""
    old, new = (outers_of(read_recipe(settings.method)) for settings in (before, after))
    if old == new or federation.latest().outer is None:
        return []
    dropped = f"what {' and '.join(old)} has gathered over the rounds is dropped" if old else ""
    begun = f"{' and '.join(new)} begins from nothing" if new else ""
    return [" and ".join(filter(None, (dropped, begun)))]
