"""What a contributor sends beside its delta, and what a round remembers of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.blob import Blob, Part
from coldfuse.core.names import DisplayName
from coldfuse.core.signature import Signature
from coldfuse.core.statistics import ContributedStatistics, StatisticsKind
from coldfuse.core.value import Digest, Name, Sentence, Value, without_unset

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number that JSON readers of every language, the wire's 64 bits and a float take as it is."""

MAX_EXAMPLES = 1 << 40
"""More than anybody trains on."""

NumExamples = Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
"""It may weigh a contribution: sums over all of them must stay finite and exact."""


_EDIT_NAME = r"[a-z0-9][a-z0-9._-]{0,49}"
EditName = Annotated[str, Field(pattern=f"^{_EDIT_NAME}$")]
"""Name of an edit and of the suite that judges it; its parts are suites of their own, such as `capital.keep`."""

Word = Annotated[str, Field(pattern=r"^[ -~]{0,64}$")]
"""A short word of the contributor's, in printable ASCII: it is kept, and people may see it."""

Kind = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,46}[!-~])?$")]
"""A name of a task, of a way to train or of a dtype, in printable ASCII; which ones there are, versions differ in."""

MAX_SOFTWARE = 64
"""Maximum number of programs whose versions a manifest names."""

MAX_GROUPS = 16
"""Maximum number of groups of layers whose norms are kept: ten thousand contributions may be carried in one entry."""


class Score(Value):
    """The contributor's own validation score around its training, by its task's metric."""

    metric: Word = "accuracy"
    """Name of what is measured."""
    before: float
    """Score of the start on the unchanged base: of a linear probe, where the task has a head."""
    after: float
    """Score of the fine-tuned model."""
    higher_is_better: bool = True
    """False for what is better when it is lower, such as a perplexity."""

    @model_serializer(mode="wrap")
    def _leave_out_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what is better when it is higher as it was always written: manifests are named by their bytes."""
        data: dict[str, object] = handler(self)
        return {name: value for name, value in data.items() if name != "higher_is_better" or not value}

    @property
    def quality(self) -> float:
        """Score after training as a number from 0 to 1 of which more is better, for methods that weigh by it.

        >>> Score(before=0.5, after=0.75).quality, Score(metric="Spearman", before=0.1, after=-0.2).quality
        (0.75, 0.0)
        >>> Score(metric="perplexity", before=9.0, after=3.0, higher_is_better=False).quality
        0.25
        """
        if not self.higher_is_better:
            return 1.0 / (1.0 + max(self.after, 0.0))
        return min(max(self.after, 0.0), 1.0)

    def problem(self) -> str | None:
        """Return what cannot be a score, or None."""
        low, high = (0.0, 1.0) if self.metric == "accuracy" else (-1.0, 1.0)
        if not self.higher_is_better:
            low, high = 0.0, float("inf")
        for when, score in (("before", self.before), ("after", self.after)):
            if not low <= score <= high:  # it may be a weight
                return f"its score {when} training is {score:g}, expected {low:g} to {high:g}"
        return None


class ContributionManifest(Value):
    """Who, on which base, from how much data, and where the delta lies. Named by the SHA-256 of its canonical JSON."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    federation: Digest
    """Name of the federation that it is for, which no other has."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people, of which `contributor` is the id; None where that is the name."""
    round: Annotated[int, Field(ge=1, le=2**53)]
    """Number of the round that it is for."""
    base_release: Count
    """Number of the release that the delta is relative to."""
    base_digest: Digest
    """Model digest of that release."""
    task: Kind = "text-classification"
    """Kind of the task that was trained."""
    trained: Kind = "full"
    """What was trained of the shared part: `full` for all of it, or a way that trains some, such as `lora(rank=16)`."""
    encoding: Kind
    """Dtype of the delta's numbers."""
    num_examples: NumExamples
    """Number of distinct examples that were trained on."""
    num_steps: Count
    """Number of optimiser steps."""
    delta: Blob
    delta_digest: Digest
    """SHA-256 of the delta's list of parts: the order in which contributions are summed."""
    score: Score | None = None
    """The contributor's own score, for methods that weigh by it."""
    software: Annotated[dict[Name, Word], Field(max_length=MAX_SOFTWARE)] = Field(default_factory=dict)
    """Versions of the software that trained, for people."""
    mask: Blob | None = None
    """The mask whose elements the delta's values are at: it is sent once, and named by all that use it."""
    statistics: ContributedStatistics | None = None
    """What its data say of the fine-tuned model, for fusion methods that ask for it."""
    is_named: bool | None = None
    """True where its contributor agrees to be named in the cards of releases; None: they have not said so."""
    edit: EditName | None = None
    """Name of the edit that it is, which the gate asks the suite of this name about; None: it is none."""

    @property
    def files(self) -> tuple[Blob, ...]:
        """All files that travel with it."""
        others = (self.mask, self.statistics.file if self.statistics else None)
        return self.delta, *(blob for blob in others if blob is not None)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts of all its files."""
        return tuple(part for blob in self.files for part in blob.parts)

    @model_serializer(mode="wrap")
    def _leave_out_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write what has no mask and no statistics as it was always written: it is named by its bytes."""
        return without_unset(handler(self), "mask", "statistics", "is_named", "edit")


class Measured(Value):
    """What was measured of a delta while it was screened: enough to compare it with others without reading it again."""

    kind: Annotated[str, Field(max_length=64)]
    """What was trained, and the class of the encoding: lengths of different kinds are not compared."""
    norm: Annotated[float, Field(ge=0)]
    """Length of the whole delta."""
    layers: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(max_length=MAX_GROUPS)] = ()
    """Lengths of its groups of layers, in the base's order."""
    num_changed: Count
    """Number of its elements that are not 0."""
    largest: Annotated[float, Field(ge=0)] = 0.0
    """Size of its largest element."""
    sketch: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){0,64}$")] = ""
    """Random projection of the delta as signed bytes in hex, by which copies are known."""


class AdmittedStatistics(Value):
    """Statistics that a round uses."""

    kind: StatisticsKind
    digest: Digest
    """Digest of their file's list of parts."""
    checks: Digest | None = None
    """Name of the checks that their file is verified by as it is read; None where none are needed."""


class Admission(Value):
    """A contribution that may be fused."""

    contribution: Digest
    """Digest of its manifest."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name."""
    delta_digest: Digest
    """Digest of its delta's list of parts."""
    num_examples: Annotated[int, Field(ge=1)]
    """Number of distinct examples that were trained on, as it was claimed: older versions admitted any number."""
    score: float | None = None
    """Quality of the fine-tuned model by its contributor's own score, from 0 to 1; see `Score.quality`."""
    measured: Measured | None = None
    """What was measured of its delta; None where a version did that measured nothing."""
    checks: Digest | None = None
    """Name of the checks that its delta is verified by as it is read; None where none are needed, or none were made."""
    reason: Sentence = ""
    """What was found right, for people."""
    base_release: Count | None = None
    """Number of the older release that its delta is relative to; None where that is the round's base."""
    statistics: AdmittedStatistics | None = None
    """Its statistics, where the round that it came in uses some; None where it brought none."""
    signature: Signature | None = None
    """Its contributor's signature over the manifest; None in federations without a root."""
    signed_at_s: float | None = None
    """Seconds since 1970 at which that counts; None where there is none. What is revoked since then is taken back."""
    is_named: bool | None = None
    """True where its contributor agrees to be named in the cards of releases."""
    edit: EditName | None = None
    """Name of the edit that it is; None: it is none."""
    score_weight: float | None = None
    """What its weight is multiplied by for what it was found to be worth, while it is fused; in a journal that is
    `Weighed`'s to say, and None here."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "signature", "signed_at_s", "is_named", "edit", "score_weight")

    def used_statistics(self, kind: StatisticsKind | None) -> AdmittedStatistics | None:
        """Return its statistics if they are of the kind that a method looks at: what is carried may have others."""
        return self.statistics if self.statistics is not None and self.statistics.kind == kind else None


class Rejection(Value):
    """A contribution that may not be fused, and why."""

    contribution: Digest
    """Digest of its manifest."""
    contributor: Annotated[str, Field(max_length=64)]
    """Name of its contributor, as it was sent."""
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name, or the manifest cannot be read."""
    reason: Sentence
    """Why, and what its contributor can do."""
    is_late: bool = False
    """True where nothing is wrong with it, but its round closed before it was screened."""


def is_edit_name(text: str) -> bool:
    """Tell whether an edit can have this name.

    >>> [is_edit_name(text) for text in ("capital", "Capital", "a b", "")]
    [True, False, False, False]
    """
    return re.fullmatch(_EDIT_NAME, text) is not None


def in_fusing_order(admissions: Iterable[Admission]) -> list[Admission]:
    """Sort by what was trained, not by when it came: the same contributions give the same bytes."""
    return sorted(admissions, key=lambda a: (a.delta_digest, a.num_examples, a.contribution))
