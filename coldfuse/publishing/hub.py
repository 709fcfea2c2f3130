"""Repositories of the Hub: what one holds, and how a commit gets into it. Its errors are ours from here on.

The token comes from where huggingface_hub looks for it, and from nowhere else; it is in no message, nor is what a
signed address carries.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from coldfuse import __version__
from coldfuse.core.model_files import CARD_FILE
from coldfuse.core.words import printable
from coldfuse.errors import ConflictError, NotAllowedError, StorageError, TransportError, UserInputError
from coldfuse.publishing.folder import Outgoing

_HttpError: type[Exception] = HfHubHTTPError.__bases__[0]
"""What huggingface_hub raises for a line that fails: its versions use different libraries for HTTP."""

_HTTP_LOGGERS = ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3")
"""Loggers of the libraries that versions of huggingface_hub speak HTTP with."""

_ADDRESS = re.compile(r"hf://([A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95})/?")
_MOST_CARD_BYTES = 1 << 20
_UNAUTHORISED, _FORBIDDEN, _CONFLICT, _PRECONDITION = 401, 403, 409, 412


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a branch of a repository holds."""

    is_private: bool
    commit: str
    """Commit that it is at."""
    files: frozenset[str]
    card: str | None
    """Its model card; None where there is none."""


def parse_address(address: str) -> str:
    """Return the repository that an address names.

    >>> parse_address("hf://ward/minilm")
    'ward/minilm'

    Raises:
        UserInputError: It names none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UserInputError(f"{printable(address[:200])}: expected hf://OWNER/NAME, a repository of models on the Hub")
    return found[1]


class Repository:
    """One repository of models, on one branch."""

    def __init__(self, name: str, *, branch: str = "main") -> None:
        """Take which one; nothing is asked yet."""
        self.name, self.branch = name, branch
        self._api = HfApi(library_name="coldfuse", library_version=__version__)

    def look(self) -> Held | None:
        """Return what the branch holds; None where there is no such repository, or none that this user may see.

        Raises:
            UserInputError: There is no such branch.
            TransportError: The Hub is out of reach.
        """
        with _translated(self.name):
            try:
                info = self._api.model_info(self.name, revision=self.branch)
            except RevisionNotFoundError as error:
                raise UserInputError(f"{self.name}: has no branch {self.branch!r}; make it on the Hub first") from error
            except RepositoryNotFoundError:
                return None
            names = frozenset(each.rfilename for each in info.siblings or ())
            card = self._card(info.sha or self.branch) if CARD_FILE in names else None
            return Held(is_private=bool(info.private), commit=info.sha or "", files=names, card=card)

    def create(self, *, is_private: bool) -> None:
        """Create the repository; one that is there is left as it is."""
        with _translated(self.name):
            self._api.create_repo(self.name, private=is_private, exist_ok=True)

    def tagged(self, tag: str) -> str | None:
        """Return the commit that a tag names; None where there is no such tag."""
        with _translated(self.name):
            refs = self._api.list_repo_refs(self.name)
        return next((ref.target_commit for ref in refs.tags if ref.name == tag), None)

    def card_at(self, commit: str) -> str | None:
        """Return the model card of a commit; None where it has none."""
        with _translated(self.name):
            return self._card(commit)

    def commit(
        self, files: Sequence[Outgoing], removed: Sequence[str], *, message: str, parent: str
    ) -> str:  # fmt: skip
        """Send files and take others out, in one commit; return it. What is there already is not sent again.

        Raises:
            ConflictError: Somebody else has changed the repository meanwhile.
        """
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(path_in_repo=each.path, path_or_fileobj=str(each.file)) for each in files),
            *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in removed),
        ]
        with _translated(self.name):
            done = self._api.create_commit(
                self.name, operations, commit_message=message, revision=self.branch, parent_commit=parent or None
            )
        return str(done.oid)

    def tag(self, tag: str, commit: str) -> None:
        """Give a commit a name; one that it has already is left as it is."""
        with _translated(self.name):
            self._api.create_tag(self.name, tag=tag, revision=commit, exist_ok=True)

    def _card(self, commit: str) -> str | None:
        """Return the card of a commit, if it is one by its size."""
        found = self._api.get_paths_info(self.name, [CARD_FILE], revision=commit)
        if not any(isinstance(each, RepoFile) and each.size <= _MOST_CARD_BYTES for each in found):
            return None if not found else ""
        with tempfile.TemporaryDirectory(prefix="coldfuse-card-") as scratch:
            path = self._api.hf_hub_download(self.name, CARD_FILE, revision=commit, local_dir=scratch)
            return Path(path).read_text(errors="replace")


@contextmanager
def discreet(*, is_watched: bool) -> Iterator[None]:
    """Let huggingface_hub draw its bars in the block only where somebody watches, and its HTTP library log no address.

    Large files go to addresses that are signed: whoever reads one may write there.
    """
    was_hidden = are_progress_bars_disabled()
    if not is_watched:
        disable_progress_bars()
    loggers = [logging.getLogger(name) for name in _HTTP_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.getEffectiveLevel(), logging.WARNING))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not was_hidden:
            enable_progress_bars()


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises in the block into errors of ours, in one line without addresses' secrets."""
    try:
        yield
    except (_HttpError, OSError, ValueError, RuntimeError) as error:
        raise _of(name, error) from error


def _of(name: str, error: Exception) -> Exception:
    """Return our error for one of huggingface_hub's; what only says that an upload failed has its cause behind it."""
    cause = error.__cause__ if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception) else error
    match cause:
        case LocalTokenNotFoundError():
            return NotAllowedError(f"{name}: no token of the Hub is here; log in with hf auth login, or set HF_TOKEN")
        case HfHubHTTPError():
            return _of_status(name, cause)
        case HFValidationError():
            return UserInputError(f"{name}: {_plain(cause)}")
        case OSError():  # offline by HF_HUB_OFFLINE, or a file that cannot be read
            return TransportError(f"{name}: could not be reached: {_plain(cause)}")
    if isinstance(cause, _HttpError):
        return TransportError(f"{name}: the Hub is out of reach: {_plain(cause)}; push again, it goes on")
    return StorageError(f"{name}: the Hub did not take it: {_plain(cause)}")


def _of_status(name: str, error: HfHubHTTPError) -> Exception:
    status = error.response.status_code if error.response is not None else None
    if status in (_UNAUTHORISED, _FORBIDDEN):
        return NotAllowedError(
            f"{name}: the Hub does not allow it ({status}); log in with a token that may write there (hf auth login, "
            "or HF_TOKEN)"
        )
    if status in (_CONFLICT, _PRECONDITION):
        return ConflictError(f"{name}: somebody else has changed it meanwhile ({status}); push again")
    return StorageError(f"{name}: the Hub did not take it ({status}): {_plain(error)}; push again, it goes on")


def _plain(error: Exception) -> str:
    """Return what an error says in one line, without what stands behind a question mark: signed addresses have it."""
    line = " ".join(str(error).split())
    return printable(re.sub(r"\?[^\s'\"<>)]*", "", line)[:300])
