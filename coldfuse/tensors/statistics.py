"""What a contributor's data say of its model, beside the delta: a safetensors file of one kind of statistics.

    metadata: {"format": "coldfuse-statistics", "version": "1", "kind": "fisher", "estimator": "exact",
               "model": <model digest>, "num_examples": "256", "reduction": "mean", "over": "examples", "count": "256"}

- `fisher`: the diagonal of the Fisher information, one tensor for a tensor of the model, of its name and shape;
- `variance`: the variance of each weight along the training, likewise;
- `gram`: XᵀX of a linear layer's inputs, shape (I, I), under the name of the layer's weight, shape (O, I); its
  `padding` is `excluded` where only real tokens were counted, and `included` otherwise.

Every tensor is F32, and a mean over `count` examples, tokens or snapshots, so that files of different sizes compare.
`model` is the fine-tuned model's digest. A tensor of the model that is absent has no statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import ValidationError

from coldfuse.core.contribution import Count
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.value import Digest, Value
from coldfuse.errors import CodecError, SchemaMismatchError
from coldfuse.tensors.header import Header, format_header

FORMAT = "coldfuse-statistics"
VERSION = "1"
DTYPE = "F32"

Kind = Literal["fisher", "gram", "variance"]


class StatisticsInfo(Value):
    """What a file of statistics says about itself."""

    kind: Kind
    """What the numbers are."""
    estimator: Literal["exact", "empirical", "inputs", "swag-diagonal"]
    """How the numbers were found: a Fisher's two ways, a layer's inputs, or the moments of SWAG-Diagonal."""
    model: Digest
    """Digest of the fine-tuned model that was measured."""
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


def statistics_header(tensors: Mapping[str, tuple[int, ...]], info: StatisticsInfo) -> bytes:
    """Return the first bytes of a file of statistics; the tensors' data follow in the order of their names.

    Args:
        tensors: The shape of each tensor by its name.
        info: What the file says about itself.
    """
    specs = [(name, TensorSpec(dtype=DTYPE, shape=tensors[name])) for name in sorted(tensors)]
    own = {key: str(value) for key, value in info.model_dump().items() if value is not None}
    return format_header(specs, {"format": FORMAT, "version": VERSION, **own})


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
    if (version := metadata.pop("version", None)) != VERSION:
        raise CodecError(f"{what}: statistics of version {version!r}, this coldfuse knows {VERSION}; upgrade it")
    try:
        return StatisticsInfo.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise CodecError(f"{what}: metadata {key} is {metadata.get(key)!r:.100}: {first['msg']}") from error


def check_statistics(
    header: Header, base: Schema, *, kind: Kind, what: str, model: str | None = None
) -> StatisticsInfo:
    """Check that a file holds statistics of this kind for models like the base, and return what it says of itself.

    Args:
        header: The file's header.
        base: The schema of the base, and so of the model that was measured.
        kind: The kind that the fusion method asks for.
        what: The file's name, for errors.
        model: The digest of the fine-tuned model; None where nobody has named it.

    Raises:
        CodecError: This is no file of statistics, or one of another version.
        SchemaMismatchError: The statistics are of another kind or model, or a tensor does not fit.
    """
    info = read_statistics_info(header, what=what)
    if info.kind != kind:
        raise SchemaMismatchError(f"{what}: holds statistics of kind {info.kind}, the fusion method asks for {kind}")
    if model is not None and info.model != model:
        raise SchemaMismatchError(f"{what}: computed for model {info.model}, expected {model}; compute them anew")
    for name, problem in _problems(header, base, kind):
        raise SchemaMismatchError(f"{what}: tensor {name[:200]!r}: {problem}")
    return info


def _problems(header: Header, base: Schema, kind: Kind) -> Iterator[tuple[str, str]]:
    for name, spec in header.schema.items():
        of = base.get(name)
        if of is None:
            yield name, "the base has no such tensor"
        elif not of.is_fused:
            yield name, f"dtype {of.dtype} is never fused and has no statistics"
        elif spec.dtype != DTYPE:
            yield name, f"dtype {spec.dtype}, expected {DTYPE}"
        elif kind == "gram" and len(of.shape) != 2:
            yield name, f"the base's has shape {list(of.shape)}; only a linear layer's weight has a Gram matrix"
        elif spec.shape != (want := (of.shape[1], of.shape[1]) if kind == "gram" else of.shape):
            yield name, f"shape {list(spec.shape)}, expected {list(want)}"
