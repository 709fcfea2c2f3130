"""A published model: its files, and everything it was made from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.base_facts import BaseFacts
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Count, EditName
from coldfuse.core.names import DisplayName
from coldfuse.core.retraction import Retraction
from coldfuse.core.rollback import Rollback
from coldfuse.core.shared_module import SharedModule
from coldfuse.core.statistics import StatisticsKind
from coldfuse.core.value import Digest, Name, Value, without_unset

MAX_METHOD_CHARS = 1000
"""Maximum length of a recipe with every parameter."""


class FusedContribution(Value):
    """A contribution that went into a release."""

    contribution: Digest
    """Digest of its manifest."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name."""
    delta_digest: Digest
    """Digest of its delta's list of parts."""
    num_examples: Annotated[int, Field(ge=1)]
    """Number of distinct examples that were trained on, as it was claimed: older versions took any number."""
    weight: float
    """Weight w_i, before normalisation."""
    norm: Annotated[float, Field(ge=0)] | None = None
    """Length of its delta as it came; None where nobody measured it."""
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor by which its delta was shortened before anything else was done with it."""
    base_release: Count | None = None
    """Number of the older release that its delta is relative to; None where that is the release's parent."""
    staleness_weight: float | None = None
    """What its delta was multiplied by for that; None where its base was the release's parent."""
    statistics: StatisticsKind | None = None
    """Kind of the statistics that it brought and the round used; None where it brought none, or none were used."""
    is_named: bool | None = None
    """True where its contributor has agreed to be named in the release's card; None where nobody has said so."""
    edit: EditName | None = None
    """Name of the edit that it is; None: it is none."""
    score_weight: Annotated[float, Field(gt=0)] | None = None
    """What its weight was multiplied by for what it was found to be worth; None where nobody has asked for that."""

    @model_serializer(mode="wrap")
    def _leave_out_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what has no statistics as it was always written: a release is named by its bytes."""
        return without_unset(handler(self), "statistics", "is_named", "edit", "score_weight")


class _Checked(Value):
    """Files in parts, and the checks that they are verified by as they are read."""

    checks: dict[str, Digest] = Field(default_factory=dict)
    """Name of each file's checks; files of small parts need none, and in releases of older versions none has any."""

    @model_serializer(mode="wrap")
    def _leave_out_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what an older version has written as it was written: its bytes have a name already."""
        data: dict[str, object] = handler(self)
        if not self.checks:
            data.pop("checks", None)
        for name in ("module", "cut", "retraction", "base_facts"):
            if name in data and not data[name]:
                data.pop(name)
        return data


class Cut(Value):
    """What was lost where a fused change of weights was cut to the rank of a module's factors."""

    error: Annotated[float, Field(ge=0, le=1)]
    """‖ΔW − cut‖ / ‖ΔW‖ over all modules together."""
    modules: dict[Annotated[str, Field(max_length=512)], Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict
    )
    """The same of each module, by its name."""


class OuterState(_Checked):
    """What the outer steps remember of the rounds so far."""

    age: Count
    """Number of steps that it has seen."""
    files: dict[str, Blob]
    """Parts of each file: `<slot>/<path>` for each safetensors file of the model, with its tensors in float32."""


class ReleaseManifest(_Checked):
    """What release `release` is. Release 0 is the pretrained base; immutable once published."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    federation: Digest
    """Name of the federation, which no other has."""
    release: Count
    parent: Count | None
    """Number of the release that was its base; None for release 0."""
    round: Count
    """Number of the round that made it; 0 for release 0."""
    method: Annotated[str, Field(max_length=MAX_METHOD_CHARS)]
    """Recipe with every parameter; "base" for release 0."""
    model_digest: Digest
    """SHA-256 over the sorted list of its tensors and their bytes, whatever the files."""
    files: dict[str, Blob]
    """Parts of each file, by its relative POSIX path in the Hugging Face folder."""
    contributions: tuple[FusedContribution, ...] = ()
    """Contributions that were fused, in the order of fusing."""
    outer: OuterState | None = None
    """State of the outer steps, and what rounding dropped; None where nothing is kept between rounds."""
    moved: float | None = None
    """Fraction of the model's elements whose bytes differ from the parent's; None where nobody counted."""
    norms: dict[Annotated[str, Field(max_length=64)], tuple[Annotated[float, Field(ge=0)], ...]] = Field(
        default_factory=dict
    )
    """Median length of the fused deltas of each kind, of this round and the last ones before it, the newest last."""
    module: SharedModule | None = None
    """What it is a module of, and on whose body; None where it is a whole model."""
    cut: Cut | None = None
    """What was lost where fused factors were cut to their rank; None where nothing was cut."""
    retraction: Retraction | None = None
    """What it replaces, and what was left out of it; None where a round has made it as ever."""
    base_facts: BaseFacts | None = None
    """What the first base's own card and the Hub say of it, for the release's card; None where nothing is known."""
    created_at_s: float
    """Seconds since 1970, by the publisher's clock; for people."""
    software: dict[Name, str] = Field(default_factory=dict)
    """Versions of the software that fused, for people."""

    @property
    def continues(self) -> int | None:
        """Number of the release that was the latest before it: its parent, or what it replaces; None for release 0."""
        return self.retraction.replaces if self.retraction else self.parent


class Channel(Value):
    """A pointer to a release, changed by compare and swap."""

    release: Count
    round: Count
    """Number of the round that made it."""
    manifest: Digest
    """SHA-256 of the release manifest's bytes."""
    model_digest: Digest
    """Digest of the release's tensors."""
    rollback: Rollback | None = None
    """The channel's last step back to an older release; None: there was none."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "rollback")

    @property
    def newest(self) -> int:
        """Largest number of a release that this channel has ever pointed to."""
        return max(self.release, self.rollback.newest if self.rollback else 0)

    @property
    def last_round(self) -> int:
        """Number of the last round that is over with this release: the current one comes after it."""
        return max(self.round, self.rollback.round if self.rollback else 0)
