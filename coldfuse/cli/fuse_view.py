"""What `coldfuse fuse` shows: what it would do, and what the result is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace

import typer

from coldfuse.api.bars import is_watched, pass_bar
from coldfuse.cli.fuse_output import adapter_json, adapter_lines, cut_lines
from coldfuse.cli.options.fuse import View
from coldfuse.cli.search import search_json
from coldfuse.core.left_out import left_out_lines
from coldfuse.core.words import plural
from coldfuse.engine.execution import Executor
from coldfuse.engine.expansions import expanded
from coldfuse.engine.explain import Coefficients, Explanation, explain, require_memory_to_explain
from coldfuse.engine.folder_fusion import (
    FolderFused,
    FolderFusion,
    fuse_prepared,
    open_fusion,
    prepare,
    require_absent,
)
from coldfuse.engine.fuse import Prepared
from coldfuse.engine.preview import PassReport, PlanReport, all_left_out, all_passes, describe, report_inputs
from coldfuse.engine.settings import described, settings_of
from coldfuse.fusion.settings import WEIGHT
from coldfuse.search.methods import GreedySoup
from coldfuse.search.trials import Found


def fuse_and_show(
    request: FolderFusion, executor: Executor, view: View, *, method: str, found: Found | None = None
) -> None:
    """Fuse, or fuse what a search has found, and print what was made; the last line is the digest, or all is JSON."""
    chosen = found.request if found else request
    require_absent(request.out)
    prepared = prepare(chosen, executor)
    if view.explain:
        require_memory_to_explain(prepared, executor)

    with ExitStack() as stack:
        stack.enter_context(expanded(prepared, request.out))
        progress = None
        if is_watched() and not view.as_json:
            passes = all_passes(prepared, is_explained=view.explain is not None)
            progress = stack.enter_context(pass_bar(passes))
        made = fuse_prepared(prepared, request.out, executor, progress=progress)
        explanation = None
        if view.explain:
            explanation = explain(prepared, made.fused.fusion, request.out, executor, progress=progress)
    if view.as_json:
        said = _result_json(chosen, prepared, made, explanation)
        typer.echo(json.dumps(said | (search_json(found) if found else {})))
        return
    by = described(prepared.fusion) if prepared.fusion.own else method
    typer.echo(f"fused {_chosen_of(request, chosen)} by {by} into {request.out}")
    of_module = (*adapter_lines(made), *cut_lines(made))
    for line in (*_state_lines(prepared), *of_module, *left_out_lines(all_left_out(prepared))):
        typer.echo(line)
    if explanation is not None:
        paths, order = [str(item.path) for item in prepared.inputs], as_given(prepared, chosen.models)
        show_explanation(explanation, paths, order, by_tensor=view.explain == "tensors")
    if prepared.output.kind == "model":
        typer.echo(f"{made.fused.moved:.2%} of the elements moved")
    typer.echo(f"digest {made.digest}")


def describe_and_show(request: FolderFusion, executor: Executor, view: View) -> None:
    """Print what fusing would do."""
    prepared = open_fusion(request)
    report = describe(prepared, executor, is_explained=view.explain is not None)
    inputs = tuple(report.inputs[index] for index in as_given(prepared, request.models))
    show_plan(replace(report, inputs=inputs), as_json=view.as_json)


def show_plan(report: PlanReport, *, as_json: bool) -> None:
    """Print what would happen."""
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"fits": report.fits}))
        return
    files = plural(report.num_files, "file")
    elements = f"{plural(report.num_tensors, 'tensor')} of {report.num_elements:,} elements to fuse"
    _row("recipe", report.recipe)
    _row("base", f"{report.base}  {format_size(report.base_bytes)} in {files}, {elements}")
    for number, item in enumerate(report.inputs):
        statistics = f", {format_size(item.statistics_bytes)} of statistics" if item.statistics_bytes else ""
        weighs = any(other.weight != 1 for other in report.inputs)
        own = item.settings or ({WEIGHT: item.weight} if weighs else {})
        line = f"{item.path}  {item.kind}, {format_size(item.size_bytes)}{statistics}{_settings_text(own)}"
        _row("" if number else "inputs", line)
    if report.parameters:
        _row("set", _settings_text(report.parameters).removeprefix(", "))
    tasks, workers = plural(report.num_shards, "task"), plural(report.num_workers, "worker")
    _row("tasks", f"{plural(report.num_parts, 'part')} in {tasks} a pass, for {workers}")
    for number, item_pass in enumerate(report.passes, start=1):
        _row("" if number > 1 else "passes", f"{number}  {_pass_line(item_pass)}")
    _row("memory", _memory_line(report))
    for line in left_out_lines(report.left_out):
        typer.echo(line)


def show_explanation(explanation: Explanation, paths: Sequence[str], order: Sequence[int], *, by_tensor: bool) -> None:
    """Print what the fused delta is made of; `order` says in which order the contributions are named."""
    overall = explanation.overall
    if overall.is_exact:
        typer.echo("the fused delta is this sum of the models' deltas:")
    else:
        typer.echo(f"this sum of the models' deltas comes closest to the fused delta{_explains(overall)}:")
    for index in order:
        typer.echo(f"{_number(overall.contributions[index])}  {paths[index]}")
    if overall.base:
        typer.echo(f"{_number(overall.base)}  the base itself")
    if by_tensor:
        typer.echo("and tensor by tensor, in the same order:")
        for tensor, own in explanation.tensors.items():
            typer.echo(f"{' '.join(_number(own.contributions[index]) for index in order)}  {tensor}{_explains(own)}")


def _result_json(
    request: FolderFusion, prepared: Prepared, made: FolderFused, explanation: Explanation | None
) -> dict[str, object]:
    """Return all there is to say, with the contributions in the order in which the user named them."""
    order, inputs = as_given(prepared, request.models), report_inputs(prepared)
    parameters = settings_of(prepared.fusion)[1]
    said: dict[str, object] = {
        "digest": made.digest,
        "out": str(request.out),
        "method": described(prepared.fusion),
        **({"parameters": parameters} if parameters else {}),
        **({"moved": made.fused.moved} if prepared.output.kind == "model" else {}),
        "contributions": [asdict(inputs[index]) for index in order],
        **({"outer": _state_json(prepared)} if prepared.state.slots else {}),
        **adapter_json(made),
        "left_out": [asdict(item) for item in all_left_out(prepared)],
    }
    return said if explanation is None else said | {"explanation": _explanation_json(explanation, order)}


def _state_json(prepared: Prepared) -> dict[str, object]:
    return {"continues": prepared.state.age > 0, "round": prepared.state.age + 1}


def _state_lines(prepared: Prepared) -> list[str]:
    if not prepared.fusion.recipe.slots:
        return []
    return [f"outer state {'continues' if prepared.state.age else 'begins'}: round {prepared.state.age + 1}"]


def _chosen_of(request: FolderFusion, chosen: FolderFusion) -> str:
    """Say how many models were fused, and of how many if a search has chosen them."""
    given = plural(len(request.models), "model")
    return f"{len(chosen.models)} of {given}" if isinstance(request.recipe.combiner, GreedySoup) else given


def _explanation_json(explanation: Explanation, order: Sequence[int]) -> dict[str, object]:
    """Return coefficients as JSON, with the contributions in this order."""

    def one(own: Coefficients) -> dict[str, object]:
        return asdict(own) | {"contributions": [own.contributions[index] for index in order]}

    return {"overall": one(explanation.overall), "tensors": {t: one(own) for t, own in explanation.tensors.items()}}


def as_given(prepared: Prepared, models: Sequence[object]) -> list[int]:
    """Return the indices of the inputs, which are in fusing order, in the order in which the user named them."""
    named = {str(model): place for place, model in reversed(list(enumerate(models)))}
    paths = [str(item.path) for item in prepared.inputs]
    return sorted(range(len(paths)), key=lambda index: named.get(paths[index], len(named)))


def format_size(num_bytes: int) -> str:
    """Write bytes for people.

    >>> format_size(512), format_size(5 << 20), format_size(3 << 29)
    ('512 B', '5.0 MiB', '1.5 GiB')
    """
    for exponent, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if num_bytes >= 1 << exponent:
            return f"{num_bytes / (1 << exponent):.1f} {unit}"
    return f"{num_bytes} B"


def _pass_line(item: PassReport) -> str:
    of = f" of each {item.scope}" if item.scope == "tensor" else f" of the {item.scope}" if item.scope else ""
    step = f" for {item.step}" if item.step else ""
    write = f", write {format_size(item.write_bytes)}" if item.write_bytes else ""
    again = ", and again where the sample misled" if item.may_repeat else ""
    place = f", {item.place}" if item.place else ""
    return f"{item.what}{of}{step}{place}: read {format_size(item.read_bytes)}{write}{again}"


def _memory_line(report: PlanReport) -> str:
    line = f"{format_size(report.task_bytes)} for a worker, which may take {format_size(report.limit_bytes)}"
    return line if report.fits else f"{line}: too little; give more --memory or fewer --workers"


def _settings_text(settings: Mapping[str, object]) -> str:
    """Write settings for people: a number, or the smallest and the largest of those that tensors have."""
    texts = []
    for name, value in settings.items():
        numbers = sorted(value.values()) if isinstance(value, Mapping) else [value]
        by_tensor = f" to {numbers[-1]:g} by tensor" if len(numbers) > 1 else ""
        texts.append(f", {name} {numbers[0]:g}{by_tensor}")
    return "".join(texts)


def _row(what: str, text: str) -> None:
    typer.echo(f"{what:<8}{text}")


def _number(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:>9.4f}"


def _explains(own: Coefficients) -> str:
    return "" if own.explained is None else f", and explains {own.explained:.2%} of it"
