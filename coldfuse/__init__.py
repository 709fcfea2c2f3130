"""coldfuse: many parties improve one shared pretrained model, and their data never leaves them.

    federation = coldfuse.connect("host:7700")          # or a folder, or s3://bucket/prefix
    federation.fetch("model/")                          # the release, verified
    federation.contribute(model, num_examples=5000)     # what fine-tuning changed of it, and nothing else
    for _ in coldfuse.attach(trainer, federation):      # a Trainer takes part, round after round
        trainer.train()
    coldfuse.fuse("base/", ["alice/", "bob/"], method="ties(density=0.3)", out="fused/")
    coldfuse.evaluate(["base/", "fused/"], "reviews.csv")   # is it better, and can these data tell?

Every name is loaded when it is first used; importing coldfuse loads errors alone. To read the code, take the packages
in the order in which data flow: `data`, `training`, `contributor`, `gateway` and `transport`, `storage` and `registry`,
`aggregator` and `engine`, `fusion`, `consumer`; `api` and `cli` are what people call.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from coldfuse.errors import (
    ChainError,
    CodecError,
    ColdfuseError,
    ConflictError,
    ContributionRejectedError,
    DamagedObjectError,
    DigestMismatchError,
    ExpiredError,
    FederationError,
    FusionError,
    GatewayBusyError,
    LeaseLostError,
    MissingExtraError,
    NoGainError,
    NotAllowedError,
    ObjectNotFoundError,
    RollbackError,
    RoundClosedError,
    SchemaMismatchError,
    SignatureError,
    StorageError,
    TransportError,
    TrustError,
    UnknownKeyError,
    UnknownRootError,
    UnsuitableStoreError,
    UserInputError,
    WorkerLostError,
)

if TYPE_CHECKING:
    from coldfuse.api.attach import attach
    from coldfuse.api.connect import connect, fetch
    from coldfuse.api.diff import diff
    from coldfuse.api.evaluate import evaluate
    from coldfuse.api.evaluated import EvaluationResult
    from coldfuse.api.federation import Federation
    from coldfuse.api.fuse import fuse, methods
    from coldfuse.api.fused import FusedModel, MethodInfo, Methods, ParameterInfo
    from coldfuse.api.modules import load_module
    from coldfuse.api.push import push
    from coldfuse.api.rank import rank
    from coldfuse.api.similarity import similarity
    from coldfuse.api.values import Acknowledgement, FetchedRelease, Releases
    from coldfuse.gateway import ContributionVerdict, Decision, ReleaseSummary, Status
    from coldfuse.movement.compare import Movement
    from coldfuse.publishing.pushed import Pushed

    __version__: str

_HOMES = {
    "coldfuse.api.attach": ("attach",),
    "coldfuse.api.connect": ("connect", "fetch"),
    "coldfuse.api.diff": ("diff",),
    "coldfuse.api.evaluate": ("evaluate",),
    "coldfuse.api.evaluated": ("EvaluationResult",),
    "coldfuse.api.federation": ("Federation",),
    "coldfuse.api.fuse": ("fuse", "methods"),
    "coldfuse.api.fused": ("FusedModel", "MethodInfo", "Methods", "ParameterInfo"),
    "coldfuse.api.modules": ("load_module",),
    "coldfuse.api.rank": ("rank",),
    "coldfuse.api.similarity": ("similarity",),
    "coldfuse.api.push": ("push",),
    "coldfuse.api.values": ("Acknowledgement", "FetchedRelease", "Releases"),
    "coldfuse.gateway": ("ContributionVerdict", "Decision", "ReleaseSummary", "Status"),
    "coldfuse.movement.compare": ("Movement",),
    "coldfuse.publishing.pushed": ("Pushed",),
}  # fmt: skip
"""Names that are loaded when they are used, by their modules; without their extra, some say what to install."""

__all__ = [
    "Acknowledgement",
    "ChainError",
    "CodecError",
    "ColdfuseError",
    "ConflictError",
    "ContributionRejectedError",
    "ContributionVerdict",
    "DamagedObjectError",
    "Decision",
    "DigestMismatchError",
    "EvaluationResult",
    "ExpiredError",
    "Federation",
    "FederationError",
    "FetchedRelease",
    "FusedModel",
    "FusionError",
    "GatewayBusyError",
    "LeaseLostError",
    "MethodInfo",
    "Methods",
    "MissingExtraError",
    "Movement",
    "NoGainError",
    "NotAllowedError",
    "ObjectNotFoundError",
    "ParameterInfo",
    "Pushed",
    "ReleaseSummary",
    "Releases",
    "RollbackError",
    "RoundClosedError",
    "SchemaMismatchError",
    "SignatureError",
    "Status",
    "StorageError",
    "TransportError",
    "TrustError",
    "UnknownKeyError",
    "UnknownRootError",
    "UnsuitableStoreError",
    "UserInputError",
    "WorkerLostError",
    "__version__",
    "attach",
    "connect",
    "diff",
    "evaluate",
    "fetch",
    "fuse",
    "load_module",
    "methods",
    "push",
    "rank",
    "similarity",
]


def __getattr__(name: str) -> object:
    """Load a name that was not used before."""
    if name == "__version__":
        found: object = _version()
    elif home := next((module for module, names in _HOMES.items() if name in names), None):
        found = getattr(import_module(home), name)
    else:
        raise AttributeError(f"module 'coldfuse' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the names of the API."""
    return __all__


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - takes longer than all the rest

    try:
        return version("coldfuse")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0.0.0"
