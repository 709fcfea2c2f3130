"""`coldfuse contribute --model`: what somebody has trained elsewhere is sent as a node sends what it has trained."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from coldfuse.api.models import open_finetuned
from coldfuse.api.own_delta import Ground, Made, write_own_delta
from coldfuse.api.recognising import check_base, recognise, unrecognised
from coldfuse.cli.leaving import show_leaving
from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.consumer import read_fetched
from coldfuse.contributor.events import NodeEvent
from coldfuse.contributor.mending import mend_base
from coldfuse.contributor.sender import Sender
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.names import Identity
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.errors import RoundClosedError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.contents import content_digest
from coldfuse.tensors.encodings import Encoding
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_file import open_tensors


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """A model's or adapter's folder that somebody has trained, and as whom it is contributed."""

    who: Identity
    """Id and name of the contributor."""
    folder: Path
    """The model's or adapter's folder."""
    digest: str
    """Digest of its tensors."""
    num_examples: int
    """Distinct examples that it was trained on."""
    encoding: Encoding
    """Dtype in which the delta travels."""
    edit: str | None = None
    """Name of the edit that it is; None: it is none."""

    def work_digest(self) -> str:
        """Digest what decides the delta."""
        named = [] if self.edit is None else [{"edit": self.edit}]
        return sha256(canonical_json(["given model", self.digest, self.num_examples, self.encoding, *named]))


def given_model(options: ContributeOptions, name: str, encoding: Encoding) -> GivenModel:
    """Return what is contributed, from the options.

    Raises:
        UserInputError: There is no such folder, or it holds no tensors.
    """
    folder = options.model
    if folder is None or options.num_examples is None:
        raise typer.BadParameter("--model needs --num-examples: how many distinct examples it was trained on")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserInputError(f"{folder}: expected the folder of a model or adapter, with safetensors files in it")
    digest = content_digest([open_tensors(LocalFile(path)) for path in files])
    return GivenModel(
        who=replace(Identity.of(name), is_named=options.is_named), folder=folder, digest=digest,
        num_examples=options.num_examples, encoding=encoding, edit=options.edit,
    )  # fmt: skip


def contribute_model(sender: Sender, given: GivenModel, options: ContributeOptions) -> None:
    """Write the model's delta to its base, and send it, or show it; a delta that is there already is taken.

    Raises:
        UserInputError: Nobody says what it was made from, or nothing differs.
        RoundClosedError: No round takes it any more.
        ContributionRejectedError: It was rejected; the message says why.
    """
    release = _release_of(sender, given, options)
    work, manifest = sender.begin(release)
    trained = work.trained(base_digest=manifest.model_digest, work_digest=given.work_digest())
    if trained is None:
        trained = _make(sender, work, given, options.statistics)
    if options.dry_run:
        show_leaving(sender, work, trained, as_json=options.as_json)
        return
    if not sender.settle(work, trained, wait_for_release=False):
        status = sender.client.status()
        raise RoundClosedError(
            f"the model was made from release {release}, release {status.latest.number} is out, and "
            f"{status.rules.lateness}; fetch that and train on it"
        )


def _release_of(sender: Sender, given: GivenModel, options: ContributeOptions) -> int:
    if options.base is not None:
        return check_base(options.base, sender.client).release
    if options.release is not None:
        return options.release
    found = recognise(given.folder, sender.client)
    if found is None:
        raise unrecognised(given.folder)
    return found.release


def _make(sender: Sender, work: WorkFolder, given: GivenModel, statistics: Path | None) -> Trained:
    base_dir = sender.folder.base
    manifest = read_fetched(base_dir)
    if manifest is None:
        raise UserInputError(f"{base_dir}: was changed meanwhile; start again")

    def tell(sentence: str) -> None:
        sender.report(NodeEvent(phase="damaged", base_release=manifest.release, message=sentence))

    def mend() -> bool:
        return mend_base(sender.client, base_dir, manifest, tell)

    mend()
    base = open_checkpoint(base_dir)
    rule = sender.client.status().statistics
    ground = Ground(release=manifest, base=base, mend=mend, rule=rule, encoding=given.encoding)
    with ExitStack() as stack:
        finetuned = open_finetuned(given.folder, base, sender.folder.scratch / "expanded", stack)
        made = Made(num_examples=given.num_examples, statistics=statistics)
        trained = write_own_delta(work, ground, finetuned.changes, made, offering=given)
        trained = trained.model_copy(update={"edit": given.edit})
    work.forget_sent()
    work.save_trained(trained)
    size = f"delta {trained.delta.size_bytes / 2**20:.1f} MiB"
    stays = f"; stays here: {', '.join(finetuned.left_out[:5])}" if finetuned.left_out else ""
    message = f"{given.folder}: {size}{stays}"
    sender.report(NodeEvent(phase="trained", base_release=manifest.release, message=message))
    return trained
