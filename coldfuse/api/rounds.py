"""One round in somebody's own training: the release goes into their model, and what changed of it goes out.

    with federation.round(name="alice") as this:
        this.load_into(model)
        train(model)                                   # yours
        this.contribute(model, num_examples=5000)

A model that is none of torch's, or a folder, is contributed as well, without `load_into`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from coldfuse.adapters.loading import put_tensors
from coldfuse.api.models import Model, open_finetuned
from coldfuse.api.own_delta import Made
from coldfuse.api.participating import Begun, Participant
from coldfuse.api.said import check_count, check_score
from coldfuse.attached.adapters import is_rounding, remake, require_mergeable
from coldfuse.attached.live import Live
from coldfuse.attached.own import TorchModule, is_module
from coldfuse.attached.ranks import on_first
from coldfuse.contributor.work import Trained
from coldfuse.core.contribution import Score
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.gateway import ContributionVerdict
from coldfuse.tensors.changes import Change, ChangesByName, DenseChange
from coldfuse.tensors.deltas import has_changed
from coldfuse.tensors.tensor_reader import TensorReader


class Round:
    """One round of a federation: the release that it begins from, and what becomes of what is trained on it."""

    def __init__(self, participant: Participant, begun: Begun) -> None:
        """Take who takes part, and the round that has begun."""
        self._participant, self._begun = participant, begun
        self._loaded: Live | None = None
        self.is_contributed = False
        self.left_out: tuple[str, ...] = ()
        """Tensors of the model that stayed here, by its own names."""

    @property
    def number(self) -> int:
        """Number of the round that was open when this one began, or was to open next."""
        return self._begun.round

    @property
    def base_release(self) -> int:
        """Number of the release that it begins from."""
        return self._begun.base_release

    @property
    def folder(self) -> Path:
        """Folder of that release, which `from_pretrained` loads; not to be written to."""
        return self._participant.base_dir

    def load_into(self, model: TorchModule) -> None:
        """Set the release into a model that you built, and what earlier rounds kept of its private tensors.

        Shared is what the base has, by its names or those that transformers loads into the same places, or what the
        patterns of `share` name: floats, also buffers such as a batch norm's running statistics. All else is private
        and stays as it is, or becomes what the last round left. With PEFT the frozen weights are set.

        Args:
            model: Any `torch.nn.Module`: also a `PreTrainedModel` or `PeftModel`, wrapped in DDP or FSDP or not.

        Raises:
            SchemaMismatchError: It is no copy of the base, or a tensor has another shape.
            UserInputError: Its adapter is no change of weights, or a pattern of `share` names nothing.
        """
        if self._shares_module():
            self._load_module(model)
            return
        live = self._hold(model)
        live.set_base(self._participant.base())
        if live.is_adapted:
            require_mergeable(model)
            live = self._with_fresh_adapter(live)
        self._loaded = live
        if others := live.set_private(self._participant.private(live.classes)):
            self._participant.say(
                "changed", self.base_release,
                f"{others[0]} and {len(others) - 1} other private tensors are not what the last round kept, or have "
                "another shape; they stay as they are",
            )  # fmt: skip

    def keep_start(self) -> None:
        """Keep the private tensors that the model begins with, where no round has kept any.

        A block that made nothing better leaves its own behind: the next one begins from these.
        """
        live = self._loaded
        if live is None:
            return
        path = self._participant.private(live.classes)
        if not on_first(lambda: {"is_kept": path.is_file()})["is_kept"]:
            live.keep_private(path)

    def _shares_module(self) -> bool:
        """Tell whether the federation shares a module on a frozen body, in all processes."""

        def look() -> dict[str, object]:
            base = self._participant.base()
            return {"is_module": base is not None and base.module is not None}

        return bool(on_first(look)["is_module"])

    def _load_module(self, model: TorchModule) -> None:
        """Set the release's module into a model that has it: what else is in the model stays as it is."""
        base = self._participant.base()
        if base is None:
            raise UserInputError("this federation shares a module on a frozen body; train it in one process")
        put_tensors(model, base)

    def load_reference(self, model: TorchModule) -> bool:
        """Set the release into a frozen copy that training compares with, such as DPO's; False if it is another model.

        A reference is where training begins from: what it was made from in the first round is that no more.
        """
        try:
            self._hold(model).set_base(self._participant.base())
        except ColdfuseError:  # a reference of the user's own choice stays
            return False
        return True

    def _with_fresh_adapter(self, live: Live) -> Live:
        """Have the model's adapter change nothing of the release, as one that has just been made."""
        if not self._is_neutral(live):
            live.set_adapter(self._participant.adapter)
        if not self._is_neutral(live):
            if live.is_sharded:
                raise UserInputError(
                    "the adapter is not neutral on this release, and in a sharded model it cannot be made anew; begin "
                    "a new process for each round (rounds=1), on the release"
                )
            remake(live.model)
            self._participant.say("changed", self.base_release, "the adapter was made anew, to begin from the release")
            live = self._hold(live.model)
            live.set_base(self._participant.base())
        if not self._is_neutral(live):
            raise UserInputError(
                "a new adapter of this type changes the weights before it is trained; take one that begins neutral"
            )
        live.keep_adapter(self._participant.adapter)
        return live

    def _is_neutral(self, live: Live) -> bool:
        """Tell whether the model computes what the release does, in all processes."""
        with ExitStack() as stack:
            changes = self._open(live.model, live, stack)

            def look() -> dict[str, object]:
                base = self._participant.base()
                assert base is not None  # noqa: S101 - the first process has it
                with TensorReader(base.files.values()) as theta:
                    return {
                        "is_neutral": all(is_rounding(change.read, theta, name) for name, change in changes.items())
                    }

            return bool(on_first(look)["is_neutral"])

    def contribute(
        self,
        model: Model,
        *,
        num_examples: int,
        num_steps: int = 0,
        score: Score | None = None,
        statistics: str | os.PathLike[str] | None = None,
        wait: bool = True,
    ) -> ContributionVerdict | None:
        """Send what training changed of the shared tensors, and keep the private ones here for the next round.

        Args:
            model: What was trained: the model that the release was set into, or any form that `Federation.contribute`
                takes.
            num_examples: Distinct examples that it was trained on. Methods may weigh by it.
            num_steps: Optimiser steps, for people.
            score: Your own score before and after; methods may weigh by it.
            statistics: File of the fine-tuned model's statistics, for a federation whose method looks at them.
            wait: True: come back when the next release is out. False: with the aggregator's verdict.

        Returns:
            The verdict; None in all but the first of several processes.

        Raises:
            UserInputError: Nothing differs from the release, or a value is not finite, or no count; nothing was sent.
            SchemaMismatchError: It is no fine-tuned copy of the base.
            RoundClosedError: The federation has gone on, and no round takes it any more.
            ContributionRejectedError: The contribution was rejected; the message says why.
        """
        if self.is_contributed:
            raise UserInputError("this round has your contribution already; begin the next one for another")
        num_examples, num_steps = (
            check_count("num_examples", num_examples),
            check_count("num_steps", num_steps, least=0),
        )
        check_score(score)
        file = None if statistics is None else Path(statistics)
        made = Made(num_examples=num_examples, num_steps=num_steps, score=score, statistics=file)
        trained = self.make(model, made)
        return self.send(trained, wait=wait)

    def send(self, trained: Trained | None, *, wait: bool = True) -> ContributionVerdict | None:
        """Send what `make` has made; see `contribute`."""
        self.is_contributed = True
        return self._participant.send(self._begun, trained, wait=wait)

    def make(self, model: Model, made: Made) -> Trained | None:
        """Write the delta to the work folder, and keep what is private; the first process returns what was made."""
        work = self._participant.work_on(self._begun)
        trained: Trained | None = None
        with ExitStack() as stack:
            live = self._hold(model) if is_module(model) and not self._shares_module() else None
            changes = self._open(model, live, stack)

            def write() -> dict[str, object]:
                nonlocal trained
                assert work is not None  # noqa: S101 - the first process has it
                base = self._participant.base()
                what = replace(made, trained=base.module.trained) if base and base.module else made
                trained = self._participant.write(work, changes, what)
                return {}

            if live is not None and live.is_adapted:
                self._refuse_beside_the_adapter(live, changes, stack)
            on_first(write)
            if live is not None:
                self.left_out = live.plan.private
                live.keep_private(self._participant.private(live.classes))
        if work is not None and trained is not None:
            work.forget_sent()
            work.save_trained(trained)
        return trained

    def _refuse_beside_the_adapter(self, live: Live, changes: Collection[str], stack: ExitStack) -> None:
        """Refuse weights that were trained beside PEFT's adapter: what it saves would leave them out."""
        beside = set(live.trained_outside) - set(changes)
        scratch = self._participant.scratch / "beside.safetensors"
        found, read = stack.enter_context(live.changes(self._participant.base(), scratch, beside))

        def look() -> dict[str, object]:
            base = self._participant.base()
            assert base is not None  # noqa: S101 - the first process has it
            for name in found:
                if has_changed(partial(read, name), base.schema[name].num_elements):
                    raise UserInputError(
                        f"tensor {name} was trained beside the adapter, and PEFT does not save it; freeze it, or name "
                        "its module in modules_to_save"
                    )
            return {}

        on_first(look)

    def _hold(self, model: TorchModule) -> Live:
        live = Live.hold(model, self._participant.base(), self._participant.terms.share)
        if self._loaded is not None:
            live.set_as.update(self._loaded.set_as)
        return live

    def _open(self, model: Model, live: Live | None, stack: ExitStack) -> Mapping[str, Change]:
        """Return the change of each tensor that is sent, by the base's names; the first process can look at them."""
        scratch = self._participant.scratch
        stack.callback(self._participant.clear_scratch)
        if live is not None and not live.is_adapted:
            names, read = stack.enter_context(live.changes(self._participant.base(), scratch / "gathered.safetensors"))
            return ChangesByName(names, lambda name: DenseChange(partial(read, name)))
        if live is not None:
            model = live.save_adapter(scratch / "adapter")
        base = self._participant.base()
        if base is None:
            return {}
        finetuned = open_finetuned(model, base, scratch / "expanded", stack).only(self._participant.terms.share)
        self.left_out = finetuned.left_out
        return finetuned.changes


@contextmanager
def open_round(participant: Participant) -> Iterator[Round]:
    """Begin a round and yield it; what an earlier process has finished is sent before."""
    with participant.held():
        while (begun := participant.begin()).is_settled:
            pass
        round_ = Round(participant, begun)
        yield round_
        if not round_.is_contributed:
            participant.say("kept", begun.base_release, "the round ended without round.contribute: nothing was sent")
