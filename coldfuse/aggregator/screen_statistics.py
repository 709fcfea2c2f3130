"""Screen what a contribution brings beside its delta: its header against the base, then every number.

What passes can stop no round, whatever method looks at it: every number is finite and fits into float32, so that no sum
of them overflows; nothing is negative that cannot be; and a Gram matrix is one, so that the system that RegMean solves
stays solvable. Whether the numbers are true only their contributor knows.
"""

from __future__ import annotations

import numpy as np

from coldfuse.core.contribution import AdmittedStatistics, ContributionManifest
from coldfuse.core.dtypes import Raw
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import blob_digest
from coldfuse.core.statistics import ContributedStatistics, StatisticsKind
from coldfuse.engine.devices import one_blas_thread
from coldfuse.errors import CodecError, ContributionRejectedError
from coldfuse.registry.objects import Objects
from coldfuse.tensors.checks import make_list
from coldfuse.tensors.coded_statistics import decode_gram, is_gram
from coldfuse.tensors.codes import BLOCK, Float64, coded_bytes, decode_values
from coldfuse.tensors.header import Header, read_header
from coldfuse.tensors.parts import Piece, plan_parts
from coldfuse.tensors.statistics import StatisticsInfo, check_statistics
from coldfuse.tensors.verified import VerifiedReader

_LARGEST = float(np.finfo(np.float32).max)
"""No statistic of a float32 model is larger; float64 holds the sum of all squares of such."""


def check_brought(
    objects: Objects, manifest: ContributionManifest, schema: Schema, wanted: StatisticsKind, *, max_header_bytes: int
) -> AdmittedStatistics:
    """Check the statistics that a contribution brings, and return what a round remembers of them.

    Args:
        objects: The store's objects.
        manifest: The contribution's manifest, which names some.
        schema: The base's tensors.
        wanted: The kind that the round uses.
        max_header_bytes: Size of the longest header that is read.

    Raises:
        ContributionRejectedError: They are not what they should be.
        CodecError: They are no statistics that travel.
        SchemaMismatchError: They do not fit the base.
        DamagedObjectError: The store has damaged them.
    """
    given = manifest.statistics
    if given is None:
        raise ContributionRejectedError("statistics: there are none")
    file = given.file
    if given.digest != blob_digest(file):
        raise ContributionRejectedError("statistics: their digest is not that of their parts; send them with coldfuse")
    if (first := file.parts[0].size_bytes if file.parts else 0) > max_header_bytes:
        raise CodecError(f"statistics: the header claims {first:,} bytes, at most {max_header_bytes:,} are taken")
    reader = objects.open(file, what="the statistics")
    header = read_header(reader.read_into, file_bytes=file.size_bytes, what="statistics", limit=max_header_bytes)
    info = check_statistics(header, schema, kind=wanted, what="statistics", delta=manifest.delta_digest)
    if not header.tensors:
        raise ContributionRejectedError("statistics: they are of no tensor; compute them anew, with coldfuse")
    _require_as_said(info, given)
    lists = _check_parts(header, given, reader, _Numbers(schema, info))
    return AdmittedStatistics(kind=wanted, digest=given.digest, checks=objects.put_checks(lists))


def _require_as_said(info: StatisticsInfo, given: ContributedStatistics) -> None:
    """Refuse a file that says something else of itself than the manifest does."""
    if info.coding is None:
        raise ContributionRejectedError(
            "statistics: plain F32 does not travel; send them with coldfuse, which codes them"
        )
    if info.delta is None:
        raise ContributionRejectedError(
            "statistics: they do not say to which delta they belong; send them with coldfuse"
        )
    own = (info.kind, info.estimator, info.coding, info.num_examples, info.count)
    said = (given.kind, given.estimator, given.coding, given.num_examples, given.count)
    if own != said:
        raise ContributionRejectedError(f"statistics: the file says {own}, the manifest {said}; send it with coldfuse")


def _check_parts(
    header: Header, given: ContributedStatistics, reader: VerifiedReader, numbers: _Numbers
) -> list[bytes]:
    """Look at every number; return the list of checks of each part, which is read whole."""
    layouts = plan_parts(header)
    if [layout.size_bytes for layout in layouts] != [part.size_bytes for part in given.file.parts]:
        raise ContributionRejectedError("statistics: not cut into parts along their tensors; send them with coldfuse")
    lists = []
    for layout in layouts:
        data = reader.read(layout.start, layout.size_bytes)  # it has the SHA-256 that it is named by
        lists.append(make_list(data))
        for piece in layout.pieces:
            start = piece.start - layout.start
            numbers.take(piece, np.frombuffer(data, np.uint8, count=piece.num_bytes, offset=start))
    return lists


class _Numbers:
    """Looks at numbers as their bytes come: block by block, or a whole Gram matrix at a time."""

    def __init__(self, base: Schema, info: StatisticsInfo) -> None:
        self._base, self._info, self._coding = base, info, info.coding or "F16"
        self._left: Raw = np.empty(0, np.uint8)
        self._num_done = 0

    def take(self, piece: Piece, raw: Raw) -> None:
        """Look at the next bytes of a tensor; all of them come in order."""
        if piece.first == 0:
            self._left, self._num_done = np.empty(0, np.uint8), 0
        name = piece.tensor.name
        of, kind = self._base[name], self._info.kind
        is_last = piece.first + piece.num_elements == piece.tensor.spec.num_elements
        raw = np.concatenate([self._left, raw]) if len(self._left) else raw
        if kind == "gram":
            self._left = raw
            if is_last:
                self._left = np.empty(0, np.uint8)
                self._check_gram(name, decode_gram(raw, of.shape[1], self._coding))
            return
        num_blocks = len(raw) // (block_bytes := coded_bytes(BLOCK, self._coding))
        whole = raw if is_last else raw[: num_blocks * block_bytes]
        self._left = raw[len(whole) :].copy()
        count = of.num_elements - self._num_done if is_last else num_blocks * BLOCK
        self._check_values(name, decode_values(whole, count, self._coding, is_signed=False))
        self._num_done += count

    def _check_values(self, name: str, values_N: Float64) -> None:
        if values_N.size and not (values_N.max() <= _LARGEST):  # also refuses NaN
            raise ContributionRejectedError(f"statistics: tensor {name[:200]!r} has {_wild(values_N)}; {_HINT}")
        if values_N.size and values_N.min() < 0:
            raise ContributionRejectedError(
                f"statistics: tensor {name[:200]!r} has {values_N.min():g}, and nothing of {self._info.kind} is "
                f"negative; {_HINT}"
            )

    def _check_gram(self, name: str, matrix_II: Float64) -> None:
        if matrix_II.size and not (np.abs(matrix_II).max() <= _LARGEST):
            raise ContributionRejectedError(f"statistics: tensor {name[:200]!r} has {_wild(matrix_II)}; {_HINT}")
        with one_blas_thread():  # the workers are the parallel part
            is_one = is_gram(matrix_II)
        if not is_one:
            raise ContributionRejectedError(
                f"statistics: tensor {name[:200]!r} is no Gram matrix, as it is negative in some direction; {_HINT}"
            )


_HINT = "compute them anew, with coldfuse"


def _wild(values_N: Float64) -> str:
    num_bad = int(np.count_nonzero(~(np.abs(values_N) <= _LARGEST)))
    return f"{num_bad} numbers that are NaN, infinite or larger than any float32"
