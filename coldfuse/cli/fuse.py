"""Fusing without a federation."""

from __future__ import annotations

from dataclasses import replace

import typer

from coldfuse.api.fusing import Machine, check_weights, explaining_files
from coldfuse.api.places import locate, locate_file
from coldfuse.cli.fuse_view import describe_and_show, fuse_and_show
from coldfuse.cli.options.fuse import FuseOptions, OutputOptions
from coldfuse.cli.recipe import recipe_of
from coldfuse.cli.search import require_one_fusion, searched
from coldfuse.cli.units import parse_size
from coldfuse.engine.folder_fusion import FolderFusion
from coldfuse.engine.outputs import Output
from coldfuse.engine.state import check_outers
from coldfuse.errors import UserInputError
from coldfuse.recipes.reading import read_recipe_file
from coldfuse.recipes.recipe_file import RecipeFile
from coldfuse.recipes.weights_file import read_weights_file
from coldfuse.tensors.checkpoint import open_model


def fuse(options: FuseOptions) -> None:
    """Fuse model folders, delta files or adapters on a base."""
    options, file = _with_recipe(options)
    for note in file.notes if file else ():
        typer.echo(f"note: {options.recipe_file}: {note}", err=True)
    request, given = _request(options, file), options.machine
    view, evidence = options.view, options.evidence
    memory_bytes = parse_size(given.memory) if given.memory else None
    machine = Machine(workers=given.workers, memory_bytes=memory_bytes, use_ray=given.use_ray, device=given.device)
    with explaining_files(options.out):
        _check_state(request)
        if view.plan:
            require_one_fusion(request, evidence)
            describe_and_show(request, machine.threads, view)
            return
        with machine.executor() as executor:
            found = searched(request, executor, evidence, memory_bytes=memory_bytes, as_json=view.as_json)
            fuse_and_show(request, executor, view, method=options.recipe.method, found=found)


def _with_recipe(options: FuseOptions) -> tuple[FuseOptions, RecipeFile | None]:
    """Return the options with what a recipe file says in place of arguments."""
    path, words = options.recipe_file, options.recipe
    if path is None:
        if options.base is None or not options.models:
            raise typer.BadParameter("expected BASE and MODELS, or --recipe FILE")
        return options, None
    if options.base is not None or words.method != "mean" or words.param or words.variant:
        raise UserInputError(f"--recipe {path}: it names models and method; leave BASE, MODELS, --method, --param out")
    if options.weights is not None or options.weights_file is not None:
        raise UserInputError(f"--recipe {path}: it has the weights; leave --weights and --weights-file out")
    file = read_recipe_file(path, lambda base: open_model(locate(base)))
    words = replace(words, method=file.method)
    seed = options.seed if file.seed is None else file.seed
    return replace(options, base=file.base, models=list(file.models), recipe=words, seed=seed), file


def _request(options: FuseOptions, file: RecipeFile | None) -> FolderFusion:
    words, output, base = options.recipe, options.output, options.base or ""
    shard_bytes = parse_size(output.shard_size) if output.shard_size else None
    said = read_weights_file(options.weights_file, options.models) if options.weights_file else None
    return FolderFusion(
        base=locate(base),
        models=[locate(model) for model in options.models],
        out=options.out,
        output=Output(kind=output.kind, shard_bytes=shard_bytes, dtype=output.dtype, rank=output.rank, base_name=base),
        recipe=recipe_of(words.method, words.param, words.variant, may_search=True),
        weights=_weights(options.weights, len(options.models)),
        settings=file.settings if file else said.models if said else (),
        shared=file.shared if file else said.shared if said else {},
        statistics=[locate_file(path) for path in options.statistics],
        seed=options.seed,
        device=options.machine.device,
        keeps_residual=options.residual,
        with_code=_with_code(output),
        untie=output.untie,
    )


def _with_code(output: OutputOptions) -> bool:
    if output.with_code and output.kind != "model":
        raise UserInputError(f"--with-code is for models, and this makes one {output.kind}; leave it out")
    return output.with_code


def _check_state(request: FolderFusion) -> None:
    """Refuse an outer state that other steps made, before anything else takes time."""
    if request.recipe.slots:
        check_outers(open_model(request.base), request.recipe)


def _weights(text: str | None, num_models: int) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UserInputError(f"--weights {text}: expected numbers separated by commas") from None
    return check_weights(numbers, num_models, given=f"--weights {text}")
