"""Two shapes of a tensor that should have one, in words that say what may have happened."""

from __future__ import annotations


def differing_shapes(own: tuple[int, ...], base: tuple[int, ...]) -> str:
    """Say how the shape of a model's or an adapter's tensor differs from the base's.

    >>> differing_shapes((32002, 64), (32000, 64))  # doctest: +ELLIPSIS
    "shape [32002, 64], base has [32000, 64]: 2 rows more; was its vocabulary resized? resize it to the base's, ..."
    >>> differing_shapes((8, 4), (4, 8))
    'shape [8, 4], base has [4, 8]: rows and columns changed places'
    """
    shapes = f"shape {list(own)}, base has {list(base)}"
    if len(own) == len(base) == 2 and own[1:] == base[1:]:
        more = own[0] - base[0]
        rows = f"{abs(more)} row{'s' * (abs(more) > 1)} {'more' if more > 0 else 'fewer'}"
        return f"{shapes}: {rows}; was its vocabulary resized? resize it to the base's, or the base's to it"
    if own != base and own[::-1] == base:
        return f"{shapes}: rows and columns changed places"
    return f"{shapes}; was its vocabulary or a layer resized?"
