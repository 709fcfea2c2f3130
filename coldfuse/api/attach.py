"""`attach`: a Trainer that somebody has takes part in rounds.

    for _ in coldfuse.attach(trainer, federation):
        trainer.train()

What is said is checked here; `attaching` leads the rounds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coldfuse.api.federation import Federation
from coldfuse.api.said import check_count, check_encoding
from coldfuse.core.names import Identity
from coldfuse.errors import UserInputError
from coldfuse.extras import requiring

if TYPE_CHECKING:
    from coldfuse.api.rounds import Round
    from coldfuse.attached.trainer import TrainerLike
    from coldfuse.naming.sharing import Share


def attach(  # noqa: PLR0913 - what there is to say, by keyword
    trainer: TrainerLike,
    federation: Federation,
    *,
    name: str | None = None,
    rounds: int | None = None,
    num_examples: int | None = None,
    share: Share = None,
    work: str | os.PathLike[str] | None = None,
    encoding: Literal["F32", "BF16", "F16"] = "F32",
    named: bool = False,
    send: Literal["better", "always"] = "better",
) -> Iterator[Round]:
    """Take part with a Trainer, round after round: yield each round, to call `trainer.train()` in.

    Before the block, the latest release is set into the Trainer's model, and what earlier rounds kept of its private
    tensors, such as a task's head. After the block, what training changed of the shared tensors is sent, and the next
    release is waited for. A frozen body with PEFT's adapter is set as well, and the adapter begins each round anew: the
    release holds already what the last one changed.

    Every round is a training of its own: optimiser, schedule and `trainer.state` begin anew (`global_step` counts from
    0), callbacks are left alone. Checkpoints go to `output_dir/release-…`; those of the last two rounds are kept.
    Killed and started again, the script goes on: from the last checkpoint of the round under way, or by sending a delta
    that was finished. What it waits for is logged as `coldfuse` at level INFO. In several processes (torchrun,
    accelerate), each of them calls this.

    Args:
        trainer: A `transformers.Trainer`, `Seq2SeqTrainer`, or one of TRL's, with data to train on. Its model may come
            from `model_init`, have PEFT's adapters, and be trained with DDP, FSDP or ZeRO-3.
        federation: The federation, as `connect` returns it.
        name: As `Federation.contribute`.
        rounds: Rounds to take part in from now on; until the script ends by default. A round that only sent what an
            earlier process had finished counts.
        num_examples: Distinct examples that it trains on; the length of `train_dataset` by default, a stream has none.
        share: As `Federation.round`.
        work: As `Federation.round`.
        encoding: Dtype in which the delta travels.
        named: As `Federation.contribute`.
        send: `better`: where the Trainer has an `eval_dataset`, it is evaluated before and after, and what has not
            become better (`metric_for_best_model`, else the loss) is not sent: two evaluations a round more than the
            Trainer's own. `always`: nothing is evaluated for this.

    Raises:
        UserInputError: The Trainer has nothing to train on, its stream has no length, its model cannot be set, or the
            block has changed nothing.
        SchemaMismatchError: Its model is no copy of the base.
        ContributionRejectedError: A contribution was rejected, and `rounds` was given; the message says why.
    """
    if name is not None:
        Identity.of(name)
    if send not in ("better", "always"):
        raise UserInputError(f"send={send!r}: expected 'better' or 'always'")
    if not isinstance(federation, Federation):
        raise UserInputError(f"federation: expected what coldfuse.connect returns, got {federation!r:.200}")
    check_encoding(encoding)
    num_examples = None if num_examples is None else check_count("num_examples", num_examples)
    with requiring("coldfuse.attach", "contributor"):
        from coldfuse.api.attaching import Attached  # noqa: PLC0415 - torch comes with it
        from coldfuse.api.participating import OwnTraining, Participant  # noqa: PLC0415
        from coldfuse.attached.trainer import AttachedTrainer  # noqa: PLC0415
    attached = AttachedTrainer(trainer)
    if num_examples is None and attached.num_examples is None:
        raise UserInputError(
            "the Trainer's data are a stream without a length; say how many distinct examples it is: num_examples=N"
        )
    gateway, who = federation.as_contributor(name)
    terms = OwnTraining(who=replace(who, is_named=named), share=share, encoding=encoding, decisive=attached.decisive)
    folder = Path(work) if work is not None else Path(".coldfuse") / who.id
    participant = Participant(gateway, terms, folder)
    return Attached(participant, attached, num_examples=num_examples, is_scored=send == "better").run(rounds)
