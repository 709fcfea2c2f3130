"""Create a federation."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from coldfuse.api.places import resolve_model
from coldfuse.cli.options.operator import InitOptions
from coldfuse.cli.recipe import recipe_of, require_federated
from coldfuse.cli.units import parse_duration
from coldfuse.core.left_out import left_out_lines
from coldfuse.core.model_files import is_tokenizer_file
from coldfuse.core.names import Identity, shown
from coldfuse.engine.recipes import write_recipe
from coldfuse.registry.creation import create_federation
from coldfuse.storage import check_store, open_store
from coldfuse.tensors.checkpoint import open_checkpoint


def init(options: InitOptions) -> None:
    """Create a federation from a base model."""
    Identity.of(options.name, what="--name")  # before the base is looked at
    words, base = options.recipe, options.base
    recipe = recipe_of(words.method, words.param, words.variant)
    require_federated(recipe, quorum=options.quorum)
    line = write_recipe(recipe) if words.param or words.variant else words.method
    rules = {"quorum": options.quorum, "deadline_s": parse_duration(options.deadline)}
    store, model = open_store(options.store), resolve_model(base)
    checkpoint = open_checkpoint(model)  # what is no model leaves no trace in the store
    check_store(store)
    federation = create_federation(store, name=options.name, base=model, origin=base, method=line, rules=rules)
    release, settings = federation.latest(), federation.settings
    size = sum(blob.size_bytes for blob in release.files.values())
    typer.echo(
        f"created {shown(settings.name, settings.display_name)} in {options.store}: release 0, {size / 2**20:.1f} MiB"
    )
    typer.echo(f"files, which everybody who reaches the federation can have: {', '.join(sorted(release.files))}")
    for item in left_out_lines(checkpoint.left_out(base, how="no release has it, so who loads one needs it, too")):
        typer.echo(item)
    _warn_without_tokenizer(base, release.files)
    typer.echo(f"next: coldfuse serve {options.store}")
    typer.echo(f"digest {release.model_digest}")


def _warn_without_tokenizer(base: str, files: Iterable[str]) -> None:
    if not any(is_tokenizer_file(file.rpartition("/")[2]) for file in files):
        typer.echo(
            f"coldfuse: {base}: no tokenizer in it, so nobody can train this model on texts; write it there with "
            "tokenizer.save_pretrained, and create the federation again",
            err=True,
        )
