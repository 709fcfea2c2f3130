"""Create a federation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from coldfuse.api.places import facts_of, resolve_model, revision_of
from coldfuse.cli.adopting import adopt_federation
from coldfuse.cli.channel_settings import soak_of
from coldfuse.cli.closing import NEW_FEDERATION, rules_of
from coldfuse.cli.founding import begun_in, finish, founders, say_keys
from coldfuse.cli.gate import gate_of
from coldfuse.cli.keeping import retention_of
from coldfuse.cli.options.operator import InitOptions
from coldfuse.cli.recipe import line_of, recipe_of, require_federated, require_weighted
from coldfuse.cli.units import parse_duration
from coldfuse.core.left_out import LeftOut, left_out_lines
from coldfuse.core.model_files import is_tokenizer_file
from coldfuse.core.names import Identity, shown
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.statistics import StatisticsRule
from coldfuse.engine.low_rank import find_low_rank, require_shareable
from coldfuse.errors import MissingExtraError, StorageError, UserInputError
from coldfuse.extras import requiring
from coldfuse.registry.creation import create_federation, require_creatable, require_fusable
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.storage import ObjectStore, ensure_suitable, open_store
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint
from coldfuse.trust.home import FederationFolder

_TRAINING = ("torch", "transformers")


def init(options: InitOptions) -> None:
    """Create a federation from a base model."""
    Identity.of(options.name, what="--name")  # before the base is looked at
    if options.is_adopted:
        adopt_federation(options)
        return
    if options.base is None:
        raise typer.BadParameter("say which model the federation begins with: --base MODEL")
    words, base = options.recipe, options.base
    recipe = recipe_of(words.method, words.param, words.variant)
    quorum = options.closing.publish_every or options.quorum
    require_federated(recipe, quorum=quorum, with_statistics=True)
    require_weighted(recipe, options.weighting)
    statistics = StatisticsRule(kind=recipe.statistic or "none", presence=options.statistics)
    line = line_of(recipe, words)
    rules = NEW_FEDERATION | {"deadline_s": parse_duration(options.deadline)} | rules_of(options.closing)
    rules |= {"quorum": quorum}
    gate, soak, retention = gate_of(options.gating, None), soak_of(options.channels), retention_of(options.keep, None)
    store, model = open_store(options.store), resolve_model(base)
    if _was_finished(options, store):
        return
    require_creatable(store, name=options.name, rules=rules)
    checkpoint = open_checkpoint(model)  # what is no model leaves no trace in the store
    screening = ScreeningRules(is_on=options.screening == "strict")
    with _shared(options, base, model) as shared:
        if shared == model:
            require_fusable(checkpoint, model)
        else:
            if "late" not in rules_of(options.closing) and find_low_rank(open_checkpoint(shared)):
                rules["late"] = "drop"  # what came late to a shared LoRA cannot be rebased
            require_shareable(open_checkpoint(shared), recipe, str(rules.get("late", "drop")))
        _check(store)
        if shared == model:
            _say_who_can_train(base, model, checkpoint)
        folder, keys = founders(store, is_open=options.is_open, key=options.key)
        federation = create_federation(
            store, name=options.name, base=shared, origin=base, method=line, rules=rules, screening=screening,
            statistics=statistics, gate=gate, soak=soak, trust=keys, is_auditable=options.is_auditable,
            base_facts=facts_of(base, model), weighting=options.weighting,
            retention=retention,
        )  # fmt: skip
        finish(folder, store, options.store)
    how = "no release has it, so who loads one needs it, too"
    left_out = () if federation.latest().module else checkpoint.left_out(base, how=how)
    _say_created(options, federation, folder, left_out)


def _was_finished(options: InitOptions, store: ObjectStore) -> bool:
    """Tell whether all but the last word of this was done by a command that was killed then, and say that word."""
    begun = begun_in(store)
    if begun is None or store.head(SETTINGS_KEY) is None:
        return False
    federation = open_federation(store, fingerprint=begun[0].fingerprint)
    finish(begun[0], store, options.store)
    _say_created(options, federation, begun[0], ())
    return True


def _say_created(
    options: InitOptions, federation: Federation, folder: FederationFolder, left_out: Sequence[LeftOut]
) -> None:
    release, settings = federation.latest(), federation.settings
    size = sum(blob.size_bytes for blob in release.files.values())
    typer.echo(
        f"created {shown(settings.name, settings.display_name)} in {options.store}: release 0, {size / 2**20:.1f} MiB"
    )
    typer.echo(f"files, which everybody who takes part can have: {', '.join(sorted(release.files))}")
    if release.module:
        typer.echo(f"shared: {release.module}")
    for item in left_out_lines(left_out):
        typer.echo(item)
    if settings.statistics.wanted:
        typer.echo(f"statistics beside every delta: {settings.statistics}")
    if settings.weighting:
        typer.echo(f"weights by score: {settings.weighting}")
    if settings.retention:
        typer.echo(f"coldfuse gc keeps: {settings.retention}")
    if settings.gate:
        typer.echo(f"gate: {settings.gate}")
    if settings.is_auditable:
        typer.echo("auditable: every member may read the contributions that went into a release, and fuse it again")
    say_keys(options.store, folder, is_open=options.is_open)
    typer.echo(f"digest {release.model_digest}")


@contextmanager
def _shared(options: InitOptions, base: str, model: Path) -> Iterator[Path]:
    """Give the folder of what is shared: the model's own, or of a module that is made for it."""
    if options.share is None:
        if options.base_digest is not None:
            raise UserInputError("--base-digest says whose body a module fits, and no --share names one; leave it out")
        yield model
        return
    digest = options.base_digest
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise UserInputError(f"--base-digest {digest[:80]}: expected a model's SHA-256, 64 hex digits in lower case")
    with requiring("a federation that shares a module", "contributor", at_once=("torch", "transformers", "peft")):
        from coldfuse.training.sharing.kinds import parse_share  # noqa: PLC0415 - torch comes with it
        from coldfuse.training.sharing.making import Source, make_module  # noqa: PLC0415

        share = parse_share(options.share)
        source = Source(folder=model, origin=base, revision=revision_of(model), digest=digest)
        with tempfile.TemporaryDirectory(prefix="coldfuse-") as scratch:
            folder = Path(scratch) / "module"
            make_module(source, share, options.share, folder)
            yield folder


def _check(store: ObjectStore) -> None:
    """Refuse a store that is unsuitable, or full."""
    if doubt := ensure_suitable(store):
        raise StorageError(doubt)


def _say_who_can_train(base: str, model: Path, checkpoint: Checkpoint) -> None:
    """Say whether contributors can train the base with `coldfuse contribute`, or in code of their own."""
    if checkpoint.plain:
        has_tokenizer = any(is_tokenizer_file(name.rpartition("/")[2]) for name in checkpoint.plain)
        _say_what_can_be_trained(base, model, has_tokenizer=has_tokenizer)
        return
    typer.echo(
        f"base: {len(checkpoint.schema)} tensors without a configuration: whoever trains or loads it builds the "
        "module in code of their own, and takes part from Python (Federation.round)"
    )


def _say_what_can_be_trained(base: str, model: Path, *, has_tokenizer: bool) -> None:
    """Train the base for a moment, where that is installed, and say what contributors will not be able to do."""
    no_tokenizer = (
        f"{base}: no tokenizer in it, so nobody can train this model on texts; write it there with "
        "tokenizer.save_pretrained, and create the federation again"
    )
    try:
        with requiring("trying whether contributors can train the base", "contributor", at_once=_TRAINING):
            from coldfuse.training.check import check_base  # noqa: PLC0415 - an aggregator's machine has no torch

            check = check_base(model, has_tokenizer=has_tokenizer)
    except MissingExtraError as error:
        if not has_tokenizer:
            _warn(no_tokenizer)
        _warn(f"{base}: not tried whether contributors can train it: {error}")
        return
    if not has_tokenizer and check.reads_texts:
        _warn(no_tokenizer)
    if check.obstacle:
        _warn(
            f"nobody can train this base with `coldfuse contribute`: {check.obstacle}; what is trained otherwise can "
            "be contributed from Python (Federation.contribute)"
        )
        return
    typer.echo(f"base: {check.finding}")
    for remark in check.remarks:
        _warn(f"{base}: {remark}")


def _warn(line: str) -> None:
    typer.echo(f"coldfuse: {' '.join(line.split())}", err=True)
