"""A contributor's standing check beside its node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.cli.source import warn
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.contributor.events import NodeEvent
from coldfuse.errors import UserInputError
from coldfuse.extras import requiring
from coldfuse.gateway import Gateway
from coldfuse.storage import open_store


def say_auditable(gateway: Gateway) -> None:
    """Tell who contributes that every member may read it, before anything is sent."""
    if isinstance(gateway, TrustedGateway) and gateway.belief.settings().is_auditable:
        warn("this federation is auditable: every member may read what you contribute, once it went into a release")


@contextmanager
def standing_check(
    options: ContributeOptions, gateway: Gateway, report: Callable[[NodeEvent], None], stop: threading.Event
) -> Iterator[None]:
    """Look at releases in a thread of its own for as long as the block runs, where that is asked for.

    Raises:
        UserInputError: What releases were made from cannot be read here, or nobody's word counts.
    """
    if options.verify_share == 0:
        if options.verify_from is not None:
            raise typer.BadParameter("--verify-from is for --verify-share; give both")
        yield
        return
    if not isinstance(gateway, TrustedGateway) or gateway.identity is None:
        raise UserInputError("--verify-share: this federation has no root, and so no members whose word would count")
    if options.verify_from is None and not gateway.belief.settings().is_auditable:
        raise UserInputError(
            "--verify-share: what others contribute is private in this federation; give --verify-from STORE, if its "
            "operator lets you read the store or a copy of it"
        )
    with requiring("--verify-share", "fuse", at_once=("numba", "psutil")):
        from coldfuse.engine.execution import ThreadExecutor
        from coldfuse.verification.standing import StandingCheck

    def say(release: int, message: str) -> None:
        report(NodeEvent(phase="checked", base_release=release, message=f"release {release} {message}"))

    store = open_store(options.verify_from) if options.verify_from is not None else None
    check = StandingCheck(
        gateway=gateway, identity=gateway.identity, share=options.verify_share, executor=ThreadExecutor(1), say=say,
        store=store,
    )  # fmt: skip
    over = threading.Event()
    thread = threading.Thread(target=check.run, args=(over,), name="standing check", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        if not stop.is_set():  # what it has begun it ends, unless somebody wants an end now
            thread.join()
