"""What a contributor's data say of its model, beside the delta: a safetensors file of one kind of statistics.

    metadata: {"format": "coldfuse-statistics", "version": "1", "kind": "fisher", "estimator": "exact",
               "model": <model digest>, "num_examples": "256", "reduction": "mean", "over": "examples", "count": "256"}

- `fisher`: the diagonal of the Fisher information, one tensor for a tensor of the model, of its name and shape;
- `variance`: the variance of each weight along the training, likewise;
- `gram`: XᵀX of a linear layer's inputs, shape (I, I), under the name of the layer's weight, shape (O, I); its
  `padding` is `excluded` where only real tokens were counted, and `included` otherwise.

Every tensor is F32, and a mean over `count` examples, tokens or snapshots, so that files of different sizes compare.
`model` is the fine-tuned model's digest. A tensor of the model that is absent has no statistics.

What travels is version 2: every tensor is U8 of one dimension, the blocks of `codes` in the `coding` that the metadata
names. Of a Gram matrix, which is symmetric, the roots of the diagonal as F16, and then, row by row, what is above it,
as correlations G_ij / √(G_ii G_jj). `delta` is the digest of the list of parts of the delta that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import ValidationError

from coldfuse.core.contribution import Count
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.statistics import Coding, Estimator, StatisticsKind
from coldfuse.core.value import Digest, Value
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.codes import coded_bytes, gram_bytes
from coldfuse.tensors.header import Header, format_header

FORMAT = "coldfuse-statistics"
VERSION, CODED_VERSION = "1", "2"
DTYPE, CODED_DTYPE = "F32", "U8"

Kind = StatisticsKind


class StatisticsInfo(Value):
    """What a file of statistics says about itself."""

    kind: Kind
    """What the numbers are."""
    estimator: Estimator
    """How the numbers were found: a Fisher's two ways, a layer's inputs, or the moments of SWAG-Diagonal."""
    model: Digest | None = None
    """Digest of the fine-tuned model that was measured; None where a delta says which one that is."""
    delta: Digest | None = None
    """Digest of the list of parts of the delta that they travel beside; None for a model's own."""
    num_examples: Count
    """Number of examples that were looked at."""
    reduction: Literal["mean"] = "mean"
    """How the numbers of single examples are put together: by their mean, as sums would grow with the data."""
    over: Literal["examples", "tokens", "snapshots"]
    """What the mean is over."""
    count: Count
    """Number of examples, tokens or snapshots that the mean is over."""
    padding: Literal["excluded", "included"] | None = None
    """What became of the padding's inputs in a Gram matrix; None for other kinds."""
    coding: Coding | None = None
    """How the numbers are coded to travel; None for plain F32."""


def statistics_header(tensors: Mapping[str, tuple[int, ...]], info: StatisticsInfo) -> bytes:
    """Return the first bytes of a file of statistics; the tensors' data follow in the order of their names.

    Args:
        tensors: The shape of each tensor by its name, as it is without a coding.
        info: What the file says about itself.
    """
    specs = [(name, _spec(tensors[name], info)) for name in sorted(tensors)]
    own = {key: str(value) for key, value in info.model_dump().items() if value is not None}
    version = VERSION if info.coding is None else CODED_VERSION
    return format_header(specs, {"format": FORMAT, "version": version, **own})


def coded_size(shape: tuple[int, ...], kind: Kind, coding: Coding) -> int:
    """Return how many bytes of a tensor travel."""
    if kind == "gram":
        return gram_bytes(shape[0], coding)
    return coded_bytes(TensorSpec(dtype=DTYPE, shape=shape).num_elements, coding)


def _spec(shape: tuple[int, ...], info: StatisticsInfo) -> TensorSpec:
    if info.coding is None:
        return TensorSpec(dtype=DTYPE, shape=shape)
    return TensorSpec(dtype=CODED_DTYPE, shape=(coded_size(shape, info.kind, info.coding),))


def read_statistics_info(header: Header, *, what: str) -> StatisticsInfo:
    """Return what a header says of the statistics in its file.

    Args:
        header: The file's header.
        what: The file's name, for errors.

    Raises:
        CodecError: This is no file of statistics, or one of another version.
    """
    metadata = dict(header.metadata)
    if metadata.pop("format", None) != FORMAT:
        found = header.metadata.get("format")
        raise CodecError(f"{what}: not a file of coldfuse statistics (metadata format is {found!r:.100})")
    if (version := metadata.pop("version", None)) not in (VERSION, CODED_VERSION):
        raise CodecError(
            f"{what}: statistics of version {version!r}, this coldfuse knows {VERSION} and {CODED_VERSION}; upgrade it"
        )
    try:
        info = StatisticsInfo.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise CodecError(f"{what}: metadata {key} is {metadata.get(key)!r:.100}: {first['msg']}") from error
    if (info.coding is not None) != (version == CODED_VERSION):
        raise CodecError(f"{what}: statistics of version {version} with coding {info.coding}; compute them anew")
    if version == VERSION and info.model is None:
        raise CodecError(f"{what}: metadata model is None: expected the digest of the model that was measured")
    return info


def check_statistics(
    header: Header, base: Schema, *, kind: Kind, what: str, model: str | None = None, delta: str | None = None
) -> StatisticsInfo:
    """Check that a file holds statistics of this kind for models like the base, and return what it says of itself.

    Args:
        header: The file's header.
        base: The schema of the base, and so of the model that was measured.
        kind: The kind that the fusion method asks for.
        what: The file's name, for errors.
        model: The digest of the fine-tuned model; None where nobody has named it.
        delta: The digest of the delta that they should belong to, likewise.

    Raises:
        CodecError: This is no file of statistics, or one of another version.
        SchemaMismatchError: The statistics are of another kind or model, or a tensor does not fit.
    """
    info = read_statistics_info(header, what=what)
    if info.kind != kind:
        raise SchemaMismatchError(f"{what}: holds statistics of kind {info.kind}, the fusion method asks for {kind}")
    if model is not None and info.model not in (None, model):
        raise SchemaMismatchError(f"{what}: computed for model {info.model}, expected {model}; compute them anew")
    if delta is not None and info.delta not in (None, delta):
        raise SchemaMismatchError(f"{what}: belongs to delta {info.delta}, expected {delta}; send each with its own")
    for name, problem in _problems(header, base, info):
        raise SchemaMismatchError(f"{what}: tensor {name[:200]!r}: {problem}")
    return info


def shape_of(of: TensorSpec, kind: Kind) -> tuple[int, ...]:
    """Return the shape of the statistics of a tensor: its own, or that of a linear layer's Gram matrix."""
    return (of.shape[1], of.shape[1]) if kind == "gram" else of.shape


def _problems(header: Header, base: Schema, info: StatisticsInfo) -> Iterator[tuple[str, str]]:
    dtype = DTYPE if info.coding is None else CODED_DTYPE
    for name, spec in header.schema.items():
        of = base.get(name)
        if of is None:
            yield name, "the base has no such tensor"
        elif not of.is_fused:
            yield name, f"dtype {of.dtype} is never fused and has no statistics"
        elif spec.dtype != dtype:
            yield name, f"dtype {spec.dtype}, expected {dtype}"
        elif info.kind == "gram" and len(of.shape) != 2:
            yield name, f"the base's has shape {list(of.shape)}; only a linear layer's weight has a Gram matrix"
        elif spec.shape != (want := _spec(shape_of(of, info.kind), info).shape):
            coded = f" bytes of {info.coding} for {list(shape_of(of, info.kind))}" if info.coding else ""
            yield name, f"shape {list(spec.shape)}, expected {list(want)}{coded}"
