"""The rounds of a Trainer that somebody has."""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.api.own_delta import Made
from coldfuse.api.participating import Begun, Participant
from coldfuse.api.rounds import Round
from coldfuse.attached.ranks import on_first
from coldfuse.attached.trainer import AttachedTrainer, round_name
from coldfuse.errors import ContributionRejectedError, RoundClosedError


class Attached:
    """A Trainer's rounds."""

    def __init__(
        self, participant: Participant, attached: AttachedTrainer, *, num_examples: int | None, is_scored: bool
    ) -> None:
        """Take who takes part, the Trainer, its number of examples where that is said, and whether scores decide."""
        self._participant, self._attached, self._num_examples = participant, attached, num_examples
        self._is_scored = is_scored and attached.evaluates

    def run(self, rounds: int | None) -> Iterator[Round]:
        """Yield the rounds."""
        num_done = 0
        with self._participant.held(), self._attached:
            while rounds is None or num_done < rounds:
                begun = self._settle_or_begin(is_fatal=rounds is not None)
                if begun is None or begun.is_settled:
                    num_done += begun is not None
                    continue
                round_, before = self._begin(begun)
                try:
                    yield round_
                except GeneratorExit:
                    self._say(begun, "kept", "the loop was left before its block ended: nothing was sent")
                    raise
                try:
                    num_done += self._finish(round_, begun, before, is_last=num_done + 1 == rounds)
                except RoundClosedError as error:
                    self._say(begun, "late", str(error))
                except ContributionRejectedError as error:
                    if rounds is not None:
                        raise
                    self._say(begun, "rejected", str(error))
                    self._participant.wait_for_release(begun)

    def _settle_or_begin(self, *, is_fatal: bool) -> Begun | None:
        """Begin a round, or send what an earlier process has finished; None where that was rejected, and says so."""
        try:
            return self._participant.begin()
        except ContributionRejectedError as error:
            if is_fatal:
                raise
            self._participant.wait_after_rejection(str(error))
            return None

    def _begin(self, begun: Begun) -> tuple[Round, float | None]:
        self._participant.require_no_statistics()
        round_ = Round(self._participant, begun)
        terms = self._participant.terms
        name = round_name(
            begun.base_release, begun.base_digest, owner_digest=terms.owner_digest(), work_digest=terms.work_digest()
        )
        self._attached.begin(name, round_.load_into)
        reference = self._attached.reference
        if reference is not None and not round_.load_reference(reference):
            self._say(begun, "changed", "the reference model is another than the federation's, and stays as it is")
        if self._is_scored:
            round_.keep_start()
        before = self._attached.score() if self._is_scored else None
        self._say(begun, "training", "the release is set into the model")
        return round_, before

    def _finish(self, round_: Round, begun: Begun, before: float | None, *, is_last: bool) -> bool:
        """Send what the block has trained, if it is better; True once the round is over for this contributor."""
        score = None
        if before is not None:
            after = self._attached.score()
            better = on_first(lambda: {"is_better": self._attached.is_better(before, after)})["is_better"]
            if not better:
                self._not_better(begun, before, after, is_last=is_last)
                return True
            score = self._attached.as_score(before, after)
        num_examples = self._num_examples or self._attached.num_seen or 1
        made = Made(
            num_examples=num_examples, num_steps=self._attached.num_steps, score=score, trained=self._attached.trained
        )
        round_.send(round_.make(self._attached.model, made))
        return True

    def _not_better(self, begun: Begun, before: float, after: float, *, is_last: bool) -> None:
        self._say(
            begun, "kept", f"{self._attached.metric} was {before:.4g} and is {after:.4g}, which is not better: "
            "nothing was sent; send='always' sends it",
        )  # fmt: skip
        if not is_last:
            self._participant.wait_for_release(begun)

    def _say(self, begun: Begun, phase: str, message: str) -> None:
        self._participant.say(phase, begun.base_release, message)
