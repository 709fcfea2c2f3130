"""Models in FP8 as models in BF16: weights are read with their scales, and the scales are no tensors of the model.

W = w8 · scale, whoever wrote it: `weight_scale_inv` of blocks (`quant_method` fp8), `weight_scale` of a tensor, of rows
or of blocks (compressed-tensors, fbgemm_fp8, modelopt). Nothing is written, and no tensor is held in memory: files are
`ComposedFile`s, whose numbers are computed as they are read. Scales of activations and caches only say how to compute
in FP8; they are left out, as is the setting that tells libraries that the model is quantised.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from coldfuse.core.left_out import LeftOut
from coldfuse.core.model_files import folder_of
from coldfuse.core.schema import TensorSpec
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.checkpoint import Checkpoint, Place, places_of
from coldfuse.tensors.composed import compose
from coldfuse.tensors.edited import edited_index, small_json, with_files
from coldfuse.tensors.files import ByteRange, File
from coldfuse.tensors.float8 import WEIGHT_DTYPES, Float8Tensor
from coldfuse.tensors.float8_grid import Grid, blocks_of, grid_of
from coldfuse.tensors.model_folder import lenient_json, read_json
from coldfuse.tensors.quantised import SETTINGS, settings_of
from coldfuse.tensors.tensor_file import TensorFile

_METHODS = frozenset({"", "fp8", "compressed-tensors", "fbgemm_fp8", "modelopt"})
"""The `quant_method`s whose FP8 weights are read."""

_OTHERS = re.compile(
    r"(^|[._])(weight_packed|qweight|qzeros|g_idx|absmax|weight_global_scale|weight_scale_2|weight_zero_point|comfy_quant"
    r"|bitmask|compressed|SCB|blocks)$"
)
"""Tensors of which nobody here knows what they do to the weights beside them."""

_OF_ACTIVATIONS = re.compile(r"(^|[._])(input_scale(_ub)?|activation_scale|output_scale)$")
_OF_CACHES = re.compile(r"(^|[._])[qkv]_scale$")
"""One number each; what has this name and more numbers was learned."""

_SETTINGS_FILES = ("quantize_config.json", "quantization_config.json", "hf_quant_config.json")

_ADVICE = "give the model that it was made from, or load it with transformers, dequantized, and save that"


def open_as_floats(model: Checkpoint, *, is_written: bool = False) -> Checkpoint:
    """Return a model whose FP8 weights with scales are BF16 tensors; any other model as it is.

    Args:
        model: The model as it lies.
        is_written: True for a base whose dtypes the result has, which then is said.

    Raises:
        SchemaMismatchError: Some of the weights are in FP8 with scales, and they cannot all be read.
    """
    for place in sorted(model.folders):
        model = _folder_as_floats(model, place, "written in BF16" if is_written else "as BF16")
    return model


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What is in FP8 in one folder of a model."""

    scales: Mapping[str, str]
    """The scale of each weight, by the weight's name."""
    grids: Mapping[str, Grid]
    dropped: tuple[str, ...]
    """The tensors that are no part of a model in floats."""


def _folder_as_floats(model: Checkpoint, place: str, use: str) -> Checkpoint:
    settings = settings_of(_config(model, place))
    found = _find(model, place, settings)
    if found is None:
        return model
    files = dict(model.files)
    for file, source in model.files.items():
        if folder_of(file) == place:
            tensors = list(_tensors(model, file, found))
            files[file] = compose(source.file.name, tensors, source.header.metadata, within=place)
    settings_files = tuple(place + name for name in _SETTINGS_FILES if place + name in model.plain)
    told = ((f"{place}quantization_config",) if settings else ()) + settings_files
    said = f"the weights are in FP8 ({_description(model, found)}): read with their scales, {use}"
    left_out = [LeftOut("", told, said), LeftOut("", found.dropped, "scales" if told else said)]
    kept = {name: file for name, file in files.items() if file.header.tensors or folder_of(name) != place}
    edited = {} if model.is_one_file else _edited(model, place, files)
    return replace(
        with_files(model, kept, edited),
        plain=tuple(name for name in model.plain if name not in settings_files),
        converted=(*model.converted, *(item for item in left_out if item.names)),
    )


def _find(model: Checkpoint, place: str, settings: Mapping[str, object]) -> _Found | None:
    """Find the FP8 weights of a folder; None if there are none with scales, or if another method made them."""
    own = places_of([file for name, file in model.files.items() if folder_of(name) == place])
    weights = sorted(name for name, (_, entry) in own.items() if entry.spec.dtype in WEIGHT_DTYPES)
    scales = {name: scale for name in weights for end in ("_scale_inv", "_scale") if (scale := name + end) in own}
    if not scales or str(settings.get("quant_method") or "").lower() not in _METHODS:
        return None
    what = f"{model.folder}/{place}".rstrip("/")
    _check(own, weights, scales, settings, what)
    blocks = blocks_of(settings)
    grids = {
        name: grid_of(own[name][1].spec, own[scale][1].spec, blocks, what=f"{what}: tensor {name}")
        for name, scale in scales.items()
    }
    single = {name for name, (_, entry) in own.items() if entry.spec.num_elements == 1}
    dropped = {*scales.values(), *filter(_OF_ACTIVATIONS.search, own), *filter(_OF_CACHES.search, single)}
    return _Found(scales=scales, grids=grids, dropped=tuple(sorted(dropped)))


def _check(
    own: Mapping[str, Place],
    weights: list[str],
    scales: Mapping[str, str],
    settings: Mapping[str, object],
    what: str,
) -> None:
    """Raise `SchemaMismatchError` if something else than scales makes floats of the weights."""
    if other := next((name for name in sorted(own) if _OTHERS.search(name)), None):
        raise SchemaMismatchError(f"{what}: FP8 weights, and {other}, which is another quantisation's; {_ADVICE}")
    if bare := next((name for name in weights if name not in scales), None):
        raise SchemaMismatchError(f"{what}: tensor {bare} is in FP8 and has no scale beside it; fetch the whole model")
    if twice := next((name for name in weights if {f"{name}_scale", f"{name}_scale_inv"} <= own.keys()), None):
        raise SchemaMismatchError(f"{what}: tensor {twice} has two scales, _scale and _scale_inv; remove the wrong one")
    for key in ("transform_config", "sparsity_config"):
        told = settings.get(key)
        if told and not (isinstance(told, dict) and told.get("format", "") == "dense"):
            raise SchemaMismatchError(f"{what}: FP8 weights with a {key}, which coldfuse does not undo; {_ADVICE}")


def _tensors(model: Checkpoint, file: str, found: _Found) -> Iterator[tuple[str, TensorSpec, ByteRange]]:
    """Yield what a file holds as floats."""
    source = model.files[file]
    for entry in source.header.tensors:
        where = source.range(entry)
        if entry.name in found.scales:
            scale_file, scale = model.places[found.scales[entry.name]]
            made = Float8Tensor(
                weight=where, dtype=entry.spec.dtype, scales=scale_file.range(scale), scales_dtype=scale.spec.dtype,
                grid=found.grids[entry.name],
            )  # fmt: skip
            spec = TensorSpec(dtype="BF16", shape=entry.spec.shape)
            yield entry.name, spec, made.range(0, made.size_bytes)
        elif entry.name not in found.dropped:
            yield entry.name, entry.spec, where


def _description(model: Checkpoint, found: _Found) -> str:
    """Say in which form weights are, in a few words."""
    kinds = Counter(f"{model.schema[name].dtype}, {_whose(grid)}" for name, grid in found.grids.items())
    return kinds.most_common(1)[0][0] + (" and others" if len(kinds) > 1 else "")


def _whose(grid: Grid) -> str:
    if grid.block_columns < grid.columns:
        return f"a scale for each {grid.block_rows} x {grid.block_columns}"
    return "a scale for each row" if grid.block_rows == 1 else "a scale for each tensor"


def _edited(model: Checkpoint, place: str, files: Mapping[str, TensorFile]) -> dict[str, File]:
    """Return the files beside the tensors that say something else of a model in floats: configuration and index."""
    config = read_json(model.folder, f"{place}config.json")
    edited = edited_index(model, place, files)
    if isinstance(config, dict):
        edited[f"{place}config.json"] = small_json(f"{model.folder}/{place}config.json", _plain_config(config))
    return edited


def _plain_config(config: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration of a model that is not quantised."""
    plain: dict[str, object] = {}
    for key, value in config.items():
        if key in SETTINGS:
            continue
        if isinstance(value, dict) and key.endswith("_config"):
            plain[key] = _plain_config(value)
        elif key in ("dtype", "torch_dtype") and str(value).startswith("float8"):
            plain[key] = "bfloat16"
        else:
            plain[key] = value
    return plain


def _config(model: Checkpoint, place: str) -> Mapping[str, object]:
    config = lenient_json(model.folder, f"{place}config.json")
    return config if isinstance(config, dict) else {}
