"""How alike models, releases and contributions are."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from coldfuse.api.comparing import ComparisonRequest, run_comparison
from coldfuse.api.fusing import Machine
from coldfuse.cli.data_view import show_data
from coldfuse.cli.data_words import text_columns_of
from coldfuse.cli.fetching import fetching
from coldfuse.cli.options.compared import SimilarityOptions
from coldfuse.cli.text_table import aligned, figure
from coldfuse.cli.units import parse_size
from coldfuse.core.words import plural
from coldfuse.evaluation.likeness import RepresentationPair, Similarity, WeightLikeness, WeightPair
from coldfuse.evaluation.plot import require_picture
from coldfuse.evaluation.similarity_plot import draw_similarity


def similarity(options: SimilarityOptions) -> None:
    """Compare models."""
    if options.plot is not None:
        require_picture(options.plot)
    texts, pairs = _texts(options) if options.data else (None, None)
    memory_bytes = parse_size(options.memory) if options.memory else None
    request = ComparisonRequest(
        models=options.models, base=options.base, texts=texts, pairs=pairs, max_length=options.max_length,
        threads=options.threads, device=options.device,
        machine=Machine(workers=options.workers, memory_bytes=memory_bytes),
    )  # fmt: skip
    found = run_comparison(request, fetching(options.connection), on_model=_say)
    if options.plot is not None:
        draw_similarity(found, options.plot)
    if options.as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        for line in similarity_lines(found, tensors=options.tensors):
            typer.echo(line)


def _texts(options: SimilarityOptions) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Read the texts, and draw some of them."""
    from coldfuse.data.reading import read_texts  # noqa: PLC0415 - texts are asked for or not
    from coldfuse.evaluation.ranking import draw  # noqa: PLC0415

    data = show_data(read_texts(options.data, **text_columns_of(options.columns)), err=options.as_json)
    drawn = data.take(draw([""] * len(data), options.examples, seed=options.seed))
    return drawn.texts, drawn.text_pairs


def similarity_lines(found: Similarity, *, tensors: bool = False) -> Iterator[str]:
    """Yield similarities as text."""
    of = "weights themselves" if found.base is None else f"task vectors, on {found.base}"
    for index, pair in enumerate(found.weights):
        yield from ([""] if index else [])
        yield f"{pair.one} and {pair.other}: {of}"
        yield from aligned([["", "cosine", "same sign", "length", "length", "distance"], *_weight_rows(pair, tensors)])
    for number, each in enumerate(found.representations):
        yield from ([""] if found.weights or number else [])
        yield f"{each.one} and {each.other}: hidden states of {plural(found.num_examples, 'text')}"
        yield from aligned(list(_layer_rows(each)))
        if any(layer.svcca is None for layer in each.layers):
            yield "no svcca and pwcca where there are fewer texts than directions of both; take more --examples"
    for note in found.notes:
        yield f"note: {note}"


def _weight_rows(pair: WeightPair, tensors: bool) -> Iterator[list[str]]:
    rows = {"all": pair.overall, **pair.layers, **(pair.tensors if tensors else {})}
    for name, likeness in rows.items():
        yield [name, *_weight_cells(likeness)]


def _weight_cells(likeness: WeightLikeness) -> list[str]:
    return [
        figure(likeness.cosine), figure(likeness.sign_agreement), *(f"{norm:.4g}" for norm in likeness.norms),
        f"{likeness.distance:.4g}",
    ]  # fmt: skip


def _layer_rows(pair: RepresentationPair) -> Iterator[list[str]]:
    yield ["layers", "cka", "svcca", "pwcca", "procrustes"]
    for layer in pair.layers:
        name = str(layer.one) if layer.one == layer.other else f"{layer.one} / {layer.other}"
        yield [name, *map(figure, (layer.cka, layer.svcca, layer.pwcca, layer.procrustes))]


def _say(model: str) -> None:
    typer.echo(f"reading {model}", err=True)
