"""What a node does with work whose base is the latest release no more."""

from __future__ import annotations

from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.errors import FederationError
from coldfuse.gateway import Gateway, Status


def is_taken(base_release: int, status: Status) -> bool:
    """Tell whether the open round, or the next one, takes what was trained on this release."""
    return 0 <= status.latest.number - base_release <= status.rules.oldest


def moved(base_release: int, status: Status) -> str:
    """Say which way the federation has gone from a base."""
    latest = status.latest.number
    return f"release {latest} is out" if latest > base_release else f"the federation has gone back to release {latest}"


def explain_weight(base_release: int, status: Status) -> str:
    """Say what a contribution counts that is made on an older release; nothing for others."""
    age = status.latest.number - base_release
    if not age:
        return ""
    return f"; made on release {base_release}, it counts ×{status.rules.weight_of(age):g} on {status.latest.number}"


def explain_drop(base_release: int, status: Status) -> str:
    """Say why what was trained counts nowhere."""
    why = f"{moved(base_release, status)}, and {status.rules.lateness}"
    return f"what was trained on release {base_release} is dropped: {why}"


def list_unsettled(folder: NodeFolder, latest_release: int, work_digest: str) -> list[tuple[WorkFolder, Trained]]:
    """Return what was trained on other releases than the latest and has come to no end, the newest first."""
    works = [(work, work.kept(work_digest=work_digest)) for work in folder.works(but=latest_release)]
    return [(work, trained) for work, trained in works if trained is not None]


def is_of(trained: Trained, gateway: Gateway) -> bool:
    """Tell whether the base of what was trained is a release of this federation."""
    try:
        return gateway.release(trained.base_release).model_digest == trained.base_digest
    except FederationError:
        return False
