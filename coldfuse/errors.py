"""Every error that coldfuse raises on purpose, in one tree.

A message says what was expected, what came, where, and what to do about it. The command line prints it as one line and
exits with 1; anything else that reaches the top is a bug and says so.
"""


class ColdfuseError(Exception):
    """The root: catching it catches everything that coldfuse raises on purpose."""


class UserInputError(ColdfuseError):
    """A setting, a file or an option that the user gave cannot be used."""


class MissingExtraError(ColdfuseError, ImportError):
    """A library is not installed that only some of coldfuse needs; the message says which extra brings it."""


class StorageError(ColdfuseError):
    """The object store could not do what was asked: out of reach, full, or refused."""

    def __init__(self, *args: object, may_pass: bool = False, is_full: bool = False) -> None:
        """Say what happened.

        Args:
            args: The sentence.
            may_pass: True where the same call may succeed in a moment: a time-out, a lost connection, an overload.
            is_full: True where the store takes nothing more, and can still be read.
        """
        super().__init__(*args)
        self.may_pass = may_pass
        self.is_full = is_full


class ObjectNotFoundError(StorageError):
    """No object lies under this key."""


class DamagedObjectError(StorageError):
    """An object of the store is not what it was: altered, cut, empty or missing, also when it was read again.

    The store is there, so that trying again does not help: the object has to come back from somewhere else.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        """Name the object.

        Args:
            message: The sentence for people, which names it too.
            key: Key of the object; "" where it comes from another process that does not say.
        """
        super().__init__(message)
        self.key = key


class ConflictError(StorageError):
    """Somebody else changed the pointer first; read it again and decide again."""


class UnsuitableStoreError(StorageError):
    """The store does not keep the promises that coldfuse is built on (conditional writes)."""


class CodecError(ColdfuseError):
    """Bytes that are not what they claim to be: a malformed header, manifest or encoding."""


class DigestMismatchError(CodecError):
    """Bytes do not have the SHA-256 that they are named by."""


class TrustError(ColdfuseError):
    """What cannot be trusted, whoever is to blame; the narrower classes say why."""


class SignatureError(TrustError):
    """A signature is missing, is of a key that may not sign this, or does not fit what it signs."""


class UnknownRootError(TrustError):
    """A federation has a root, and nothing is known by which it could be told from somebody who pretends to be it."""


class UnknownKeyError(SignatureError):
    """Too few of those who may sign something have signed it, whoever else has."""


class RollbackError(TrustError):
    """Something older than what was seen before is handed out as the newest."""


class ChainError(TrustError):
    """An entry of a signed journal is not the one that comes after the entry before it."""


class ExpiredError(TrustError):
    """What was signed is no longer valid: nobody has renewed it, or somebody hides that it was."""


class NotAllowedError(ColdfuseError):
    """Whoever asks has no right to this: unknown, of another role, revoked or expired; the message says what to do."""


class SchemaMismatchError(ColdfuseError):
    """Tensors that do not fit the base: a name, a shape or a dtype differs."""


class ContributionRejectedError(ColdfuseError):
    """A contribution cannot be taken, and the message tells its contributor why."""


class NoGainError(ColdfuseError):
    """What was trained is no better than its base on the contributor's own validation data, and was not sent."""

    base_release: int | None = None
    """Number of that base, where it is known."""


class RoundClosedError(ContributionRejectedError):
    """The round takes no contribution (any more, or yet), or is on another base; the same node may try again."""


class FusionError(ColdfuseError):
    """The fusion method cannot fuse these contributions with these parameters."""


class FederationError(ColdfuseError):
    """The store holds no federation, holds one already, or one of a newer layout."""


class WorkerLostError(ColdfuseError):
    """A Ray worker died again and again on one task: out of memory, or its machine went away."""


class LeaseLostError(ColdfuseError):
    """Another aggregator leads now; this one must stop writing."""


class TransportError(ColdfuseError):
    """The gateway could not be reached, did not answer in time, or answered with an error."""


class GatewayBusyError(TransportError):
    """The gateway has its hands full; the same call may succeed later."""
