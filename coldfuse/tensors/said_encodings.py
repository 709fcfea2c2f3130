"""What a delta's metadata say of how its tensors are stored, as the encodings that are known here."""

from __future__ import annotations

import math
from collections.abc import Mapping

from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.encodings import DENSE, Dense, Encoded, LowRank
from coldfuse.tensors.sparse_encodings import Masked, Sparse


def class_of(encoded: Mapping[str, Encoded]) -> str:
    """Return what kind of delta this is, by which it is compared with others: what is least like a dense one.

    >>> class_of({"weight": LowRank(2, 1.0), "bias": DENSE}), class_of({"bias": DENSE})
    ('low-rank', 'dense')
    """
    kinds = {how.kind for how in encoded.values()}
    return next((kind for kind in (LowRank.kind, Masked.kind, Sparse.kind) if kind in kinds), Dense.kind)


def parse_encoding(name: str, said: object) -> Encoded:
    """Return what a delta's metadata say of a tensor.

    Raises:
        SchemaMismatchError: It is none of the encodings that are known here.
    """
    match said:
        case "dense":
            return DENSE
        case {"kind": "low-rank", "rank": int(rank), "scale": float() | int() as scale, **more} if not more:
            if type(rank) is int and rank > 0 and type(scale) is not bool and _is_finite(scale):
                return LowRank(rank, float(scale))
        case {"kind": "sparse" | "masked" as kind, "count": int(count), **more} if not more:
            if type(count) is int and count > 0:
                return Sparse(count) if kind == Sparse.kind else Masked(count)
    raise SchemaMismatchError(
        f"tensor {name[:200]!r}: encoding {str(said)[:100]!r}, expected dense, low-rank with a rank and a "
        "finite scale, or sparse or masked with a count; upgrade coldfuse if it is a newer one"
    )


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # JSON has integers of any length
        return False
