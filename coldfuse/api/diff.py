"""How far one model lies from another, and who moved it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coldfuse.api.bars import Watching, watching
from coldfuse.api.places import Place, locate
from coldfuse.config import home_folder
from coldfuse.extras import requiring
from coldfuse.gateway import Gateway
from coldfuse.registry.federation import open_federation
from coldfuse.registry.tombstones import Graveyard
from coldfuse.storage import open_store
from coldfuse.transport.connect import is_address

if TYPE_CHECKING:
    from coldfuse.movement.compare import Movement
    from coldfuse.movement.measure import OnTensor


def diff(before: Place, after: Place, *, progress: Watching = None) -> Movement:
    """Say how far a model lies from another one, tensor by tensor; for releases there is `Federation.diff`.

    Args:
        before: A model: a folder or file of this machine, `s3://bucket/prefix`, or the hub's id of one.
        after: The same of the model that was made of it, with the same tensors, whatever their dtypes, names' prefixes
            and files.
        progress: True for a bar, or a function that is called with the elements done and those in all.

    Raises:
        UserInputError: One of them is no model.
        SchemaMismatchError: The second one is no fine-tuned copy of the first one; the message names the tensor.
    """
    with requiring("coldfuse.diff", "fuse"), watching("comparing", progress) as on_progress:
        from coldfuse.movement.compare import compare_models  # noqa: PLC0415 - numpy comes with it

        return compare_models(locate(before), locate(after), progress=on_progress)


def compare_in(
    gateway: Gateway, source: str, release: int | None, *, since: int | None, progress: OnTensor | None = None
) -> Movement:
    """Compare two releases of a federation.

    Args:
        gateway: Whom is asked.
        source: Where the federation is: what was contributed is read from a store, and asked for at an address.
        release: Number of the newer release; None: the latest.
        since: Number of the older one; None: its parent.
        progress: Called with the elements that are done, and those of all tensors.
    """
    with requiring("comparing releases", "fuse"):
        from coldfuse.movement.compare import compare_releases  # noqa: PLC0415 - numpy comes with it
        from coldfuse.movement.history import History  # noqa: PLC0415

    if is_address(source):
        history = History(gateway)
    else:
        federation = open_federation(open_store(source), home=home_folder())
        history = History(gateway, federation.objects, was_erased=Graveyard(federation).covers)
    newest = history.release("latest").release if release is None else release
    return compare_releases(history, newest, before=since, progress=progress)
