"""A contributor's node: fetch the base, fine-tune, send the delta, wait for the next base.

Nothing is kept in memory that the node's folder does not hold: a node that is killed and started again asks the folder
what is done and goes on. It holds no connection open while it trains, and a round goes on without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.contributor.events import StoppedError, describe_score
from coldfuse.contributor.outliving import outlive
from coldfuse.contributor.sender import Sender
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import ColdfuseError, ContributionRejectedError, NoGainError


@dataclass(frozen=True)
class Node(Sender):
    """A contributor's node, which trains; `contribute` and `run` are its life, the other methods its steps."""

    settings: NodeSettings
    """What it contributes, and as whom."""

    def contribute(self, *, wait_for_release: bool = True) -> int:
        """Take part in one round.

        Args:
            wait_for_release: False: come back with the verdict, and do not wait for what the round makes of it.

        Returns:
            The number of the release that was the base.

        Raises:
            ContributionRejectedError: The aggregator has rejected the contribution; the message says why.
            NoGainError: What was trained does not beat its base here, and `send_anyway` is not set: nothing was sent.
            StoppedError: The node was asked to stop.
        """
        while True:
            work, trained = self.kept() or self.prepare()
            self._require_gain(work, trained)
            if self.deliver(work, trained, wait_for_release=wait_for_release):
                return trained.base_release

    def run(self, *, rounds: int | None) -> None:
        """Take part in this many rounds, or until stopped; see `contribute`.

        A round for which it has nothing better than its base to send counts, too: it says so and goes on with the next
        base; where that was the last round, it raises `NoGainError`. Without a number of rounds a rejection is
        reported, and the node goes on with the next base; and it waits for a gateway that is away for as long as that
        takes.
        """
        if rounds is not None:
            for _ in range(rounds - 1):
                self._go_on(ContributionRejectedError)
            self.contribute()
            return
        while True:
            outlive(self._go_on, self.stop, lambda reason: self._say("away", None, f"{reason}; trying again"))

    def _go_on(self, *fatal: type[ColdfuseError]) -> None:
        """Contribute, and wait for the next base where that came to nothing."""
        try:
            self.contribute()
        except NoGainError as error:  # what came out while it trained is the next base
            base = self.client.status().latest.number if error.base_release is None else error.base_release
            self._say("kept", base, str(error))
            self.wait_for_release(base)
        except ContributionRejectedError as error:
            if isinstance(error, fatal):
                raise
            base = self.client.status().latest.number
            self._say("rejected", base, str(error))
            self.wait_for_release(base)

    def _require_gain(self, work: WorkFolder, trained: Trained) -> None:
        """Refuse to send what would make the others' model worse, as far as this node can see."""
        if trained.beats_base or self.settings.send_anyway or work.sent() is not None:
            return
        score = trained.score
        how = "" if score is None else f"{describe_score(score)} "
        how += "with no lower loss " if score is not None and score.before == score.after else ""
        error = NoGainError(
            f"{self.settings.who.id}: not sent: on its own validation examples, {how}does "
            f"not beat release {trained.base_release}; its private head is kept for the next release, and "
            "--send-anyway sends such a contribution"
        )
        error.base_release = trained.base_release
        raise error

    def prepare(self) -> tuple[WorkFolder, Trained]:
        """Fetch the latest base and fine-tune it, as far as that is not done already."""
        work, manifest = self.begin()
        trained = work.trained(base_digest=manifest.model_digest, work_digest=self.settings.work_digest())
        asked = self.client.status().statistics
        if trained is not None and work.sent() is None and asked.kind not in ("none", trained.asked):
            self._say("statistics", manifest.release, f"the federation asks for {asked.kind} statistics by now")
            trained = None
        return work, trained or self._train(work, manifest, asked)

    def _train(self, work: WorkFolder, base: ReleaseManifest, asked: StatisticsRule) -> Trained:
        from coldfuse.contributor.making import make_delta  # torch comes with the first training

        made = make_delta(
            self.settings, work, base, gateway=self.client, base_dir=self.folder.base, say=self._say, stop=self.stop,
            asked=asked,
        )  # fmt: skip
        if made is None:
            raise StoppedError
        return made
