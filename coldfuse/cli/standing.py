"""How many bad contributors a round can stand, with its method and their number."""

from __future__ import annotations

from coldfuse.errors import ColdfuseError
from coldfuse.gateway import Status


def stands(status: Status) -> dict[str, int] | None:
    """Return how many of the admitted contributions, and of the quorum's, may be hostile; None where it is not known.

    That follows from the method alone: nobody of the others is moved beyond what they themselves say. What screening
    keeps out comes on top.
    """
    try:  # what only fetches and looks has no numpy, and no method of a package that the aggregator has
        from coldfuse.engine.recipes import read_recipe  # noqa: PLC0415

        combiner = read_recipe(status.method).combiner
    except (ImportError, ColdfuseError):
        return None
    return {
        "admitted": combiner.tolerates(status.round.num_admitted),
        "quorum": combiner.tolerates(status.rules.quorum),
    }


def describe_stand(status: Status) -> str | None:
    """Say it in a line for people."""
    found = stands(status)
    if found is None:
        return None
    return (
        f"stands: {found['admitted']} bad contributors of the {status.round.num_admitted} admitted, "
        f"{found['quorum']} of a quorum of {status.rules.quorum}, by its method"
    )
