"""A federation as a Python object: what consumers and contributors do."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from coldfuse.api.bars import Watching, watching
from coldfuse.api.diff import compare_in
from coldfuse.api.opening import Identify, as_contributor
from coldfuse.api.said import check_encoding
from coldfuse.api.sending import Asked, send
from coldfuse.api.values import Acknowledgement, FetchedRelease, Releases
from coldfuse.consumer import fetch as fetch_release
from coldfuse.consumer.channels import read_channels
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.contributor.manifest import default_name
from coldfuse.contributor.signing import require_sender
from coldfuse.core.names import Identity
from coldfuse.extras import requiring
from coldfuse.gateway import ContributionVerdict, Gateway, Status
from coldfuse.registry.channels import check_channel

if TYPE_CHECKING:
    from coldfuse.api.models import Model
    from coldfuse.api.rounds import Round
    from coldfuse.movement.compare import Movement
    from coldfuse.naming.sharing import Share
    from coldfuse.training.settings import TrainingSettings

Folder = str | os.PathLike[str]


class Federation:
    """A federation, as `connect` returns it. Threads may share it; close it, or use it as a context manager."""

    def __init__(self, source: str, open_: Callable[[Identify | None], Gateway], *, name: str | None = None) -> None:
        """Take where it is.

        Args:
            source: Where, for people.
            open_: Opens the gateway as somebody, once it is needed.
            name: As whom, unless something else is said.
        """
        self.source, self.name = source, name
        self._open, self._lock = open_, threading.Lock()
        self._opened: dict[str | None, Gateway] = {}
        self._fetched: Path | None = None

    @property
    def _gateway(self) -> Gateway:
        return self._opened_as(None, None if self.name is None else as_contributor(self.name, default=self.name))

    def _opened_as(self, name: str | None, identify: Identify | None) -> Gateway:
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._open(identify)
            return self._opened[name]

    def as_contributor(self, name: str | None) -> tuple[Gateway, Identity]:
        """Return what is asked under somebody's name, and who that is.

        Args:
            name: The name that was given; None: the one of `connect`, or the one that there is.

        Raises:
            UserInputError: It is no name, or there is no key for it.
            NotAllowedError: This member may not contribute.
        """
        name = self.name if name is None else name
        who = Identity.of(default_name(os.getcwd()) if name is None else name)
        gateway, identify = self._gateway, as_contributor(name, default=default_name(os.getcwd()))
        if not isinstance(gateway, TrustedGateway) or gateway.folder is None:
            return gateway, who
        member, asked = identify(gateway.folder, gateway.belief.root().is_open), gateway.identity
        if member is None:
            return gateway, who
        if asked is None or asked.name != member.name:  # it is asked as somebody else, or as nobody
            gateway = self._opened_as(member.name, identify)
        require_sender(gateway)
        return gateway, Identity(id=member.name, display_name=member.display_name)

    def open(self) -> None:
        """Connect now, and make sure that it is the federation that is known, as the first call does; as `connect`."""
        _ = self._gateway

    def status(self) -> Status:
        """Say where the federation stands: its latest release, its round, and what that waits for.

        Raises:
            TransportError: The gateway is out of reach.
            StorageError: The store is.
        """
        return self._gateway.status()

    def releases(self, *, limit: int | None = None) -> Releases:
        """List the history, newest first.

        Args:
            limit: How many of the newest; all of them by default, and each is read.
        """
        return Releases(islice(self._gateway.releases(), limit))

    def channels(self) -> dict[str, int]:
        """Return the release's number by channel. Raises `TrustError` where one is not signed as it has to be."""
        return {name: channel.release for name, channel in read_channels(self._gateway).items()}

    def fetch(
        self,
        out: Folder,
        *,
        release: int | None = None,
        channel: str = "latest",
        verify: bool = False,
        allow_older: bool = False,
        progress: Watching = None,
    ) -> FetchedRelease:
        """Download a release, verify it, and leave a folder that `from_pretrained` loads.

        A release that is asked for by its number may have been taken back since: it is brought all the same, with a
        `UserWarning`, and `taken_back` in what is returned.

        Args:
            out: A new or empty folder, or one that a fetch wrote: then only what changed is downloaded.
            release: Number of the release; the channel's by default.
            channel: Channel to follow: `latest`, or `stable` for what has proved itself.
            verify: True to read all that is there already, even if no file has changed by its size and time.
            allow_older: True to follow the channel back to an older release also where nobody has signed that.
            progress: True for a bar, or a function that is called with the bytes done and those in all.

        Raises:
            UserInputError: The folder is somebody else's, in use, or cannot be written; or the channel has gone back.
            FederationError: There is no such release or channel.
            DigestMismatchError: What arrived is not what the release's manifest says; nothing of it is in place.
        """
        which = check_channel(channel) if release is None else release
        folder = Path(out)
        with watching("fetching", progress) as on_progress:
            fetched = fetch_release(
                self._gateway, folder, which=which, progress=on_progress, verify=verify, allow_older=allow_older
            )
        self._fetched = folder
        if fetched.taken_back is not None:  # a program that names a number for good looks at nothing that is returned
            warnings.warn(str(fetched.taken_back), stacklevel=2)
        return FetchedRelease.of(folder, fetched)

    def diff(self, release: int | None = None, *, since: int | None = None, progress: Watching = None) -> Movement:
        """Say how far a release has moved, tensor by tensor, and whose contributions have moved it.

        Args:
            release: Number of the release; the latest by default.
            since: Number of the release that it is compared with; its parent by default.
            progress: True for a bar, or a function that is called with the elements done and those in all.

        Raises:
            FederationError: There is no such release.
            UserInputError: There is nothing to compare it with.
        """
        with watching("comparing", progress) as on_progress:
            return compare_in(self._gateway, self.source, release, since=since, progress=on_progress)

    def contribute(  # noqa: PLR0913 - what there is to say, by keyword
        self,
        model: Model | None = None,
        *,
        num_examples: int | None = None,
        edit: str | None = None,
        training: TrainingSettings | None = None,
        name: str | None = None,
        base: Folder | None = None,
        release: int | None = None,
        share: Share = None,
        encoding: Literal["F32", "BF16", "F16"] = "F32",
        statistics: Folder | None = None,
        named: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        progress: Watching = None,
    ) -> Acknowledgement:
        """Send what fine-tuning changed: the delta of the tensors that the base has, and a manifest, nothing else.

        Where the federation's method looks at statistics, they go with it.

        Args:
            model: The fine-tuned model: the folder of a model or of a PEFT adapter, a state dict, or a model in memory
                (a `torch.nn.Module` such as a `PreTrainedModel`, or a `PeftModel`). What the base does not have, such
                as a task's head, stays here; the answer lists it.
            num_examples: Distinct examples that it was trained on. Methods may weigh by it.
            edit: `NAME` of the edit that the model is; or, without a model, `NAME=FILE`: train on an edit's file here,
                and wait for the verdict, as `coldfuse contribute --edit`. The name travels, the file does not.
            training: Settings of that training; those of the command by default.
            name: Your name, of any script, which the whole federation sees; by default the one that you have joined
                under, else `node-…`, the same at every start in this folder. A contributor has one contribution a
                round.
            base: Folder of the release that was fine-tuned, as `fetch` wrote it; by default what the model says of
                itself (see `coldfuse.api.recognising`), or what was last fetched by this object.
            release: Number of that release, to be fetched to `.coldfuse/` where no folder has it.
            share: Patterns of what is shared, such as `"encoder.*"`, by the base's names; all that it has by default.
            encoding: Dtype in which the delta travels.
            statistics: File of the fine-tuned model's statistics, as `coldfuse statistics` wrote it, for a federation
                that asks for some. They travel coded in 8 or 16 bits; where none are asked for, they stay here.
            named: True to agree to be named in the cards of releases, which may be published.
            wait: False to come back once the contribution is acknowledged. True: wait for a round to open if none is,
                and for the aggregator's verdict.
            timeout_s: Seconds after which waiting ends in a `TransportError`; None: never.
            progress: True for a bar, or a function that is called with the bytes done and those in all.

        Returns:
            The acknowledgement, with the verdict so far.

        Raises:
            UserInputError: The name, the model or the base cannot be used.
            SchemaMismatchError: The model is no fine-tuned copy of the base.
            RoundClosedError: Another release is out meanwhile, or no round is open.
            ContributionRejectedError: The contribution was rejected; the message says why.
            NoGainError: An edit that was trained here does not beat its base on the file's rows: nothing was sent.
        """
        asked = Asked(
            model=model, num_examples=num_examples, edit=edit, training=training, base=base, release=release,
            share=share, encoding=encoding, statistics=statistics, wait=wait, timeout_s=timeout_s,
        )  # fmt: skip
        given = asked.edit_given()
        gateway, who = self.as_contributor(name)
        who = replace(who, is_named=named)
        return send(asked, given, gateway, who, last=self._fetched, progress=progress)

    @contextmanager
    def round(
        self,
        *,
        name: str | None = None,
        share: Share = None,
        work: Folder | None = None,
        encoding: Literal["F32", "BF16", "F16"] = "F32",
        named: bool = False,
    ) -> Iterator[Round]:
        """Take part in one round with a training of your own: yield it, to load the release from and to contribute to.

        Killed and entered again, it goes on: a delta that was finished and not sent is sent first.

        Args:
            name: As `contribute`.
            share: Patterns of what is shared, such as `"encoder.*"`, by the model's names or the base's; all that the
                base has by default. What is not shared stays here, and is set again in the next round.
            work: Folder that remembers what is done, for you alone; `.coldfuse/` and the name's id by default.
            encoding: Dtype in which the delta travels.
            named: As `contribute`.

        Raises:
            UserInputError: The name or the folder cannot be used.
            TransportError: The gateway is out of reach.
        """
        check_encoding(encoding)
        gateway, who = self.as_contributor(name)
        with requiring("Federation.round", "contributor"):
            from coldfuse.api.participating import OwnTraining, Participant  # noqa: PLC0415 - torch comes with it
            from coldfuse.api.rounds import open_round  # noqa: PLC0415
        terms = OwnTraining(who=replace(who, is_named=named), share=share, encoding=encoding)
        folder = Path(work) if work is not None else Path(".coldfuse") / who.id
        with open_round(Participant(gateway, terms, folder)) as round_:
            yield round_

    def verdict(self, acknowledgement: Acknowledgement) -> ContributionVerdict:
        """Say what became of a contribution that nobody has waited for.

        Raises:
            ObjectNotFoundError: This federation has received no such contribution.
        """
        return self._gateway.verdict(acknowledgement.round, acknowledgement.contribution)

    def close(self) -> None:
        """Let go of connections and threads."""
        for gateway in self._opened.values():
            gateway.close()

    def __enter__(self) -> Self:
        """Return the federation itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Say where it is; nothing is asked of it."""
        return f"Federation({self.source!r})"
