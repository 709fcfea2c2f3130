from __future__ import annotations

from coldfuse.core.blob import MIN_PART_BYTES
from coldfuse.core.schema import TensorSpec, size_of
from coldfuse.tensors.header import Header, format_header, parse_header
from coldfuse.tensors.model_digest import BLOCK_BYTES
from coldfuse.tensors.parts import plan_parts, plan_plain_parts

SPECS = {
    "embeddings": ("F32", (30_522, 384)),
    "huge": ("BF16", (200_000, 4096)),
    "empty": ("F32", (0, 5)),
    "scalar": ("F64", ()),
    "exactly one part": ("F32", (MIN_PART_BYTES // 4,)),
    "one element more": ("F16", (MIN_PART_BYTES // 2 + 1,)),
    "ids": ("I64", (512,)),
    "mask": ("BOOL", (3,)),
    "fours": ("F4", (9, 2 * MIN_PART_BYTES)),
    "rotations": ("C64", (5, 3)),
}


def header(specs=SPECS, metadata=None) -> Header:
    found = [(name, TensorSpec(dtype=dtype, shape=shape)) for name, (dtype, shape) in specs.items()]
    return parse_header(format_header(found, metadata or {})[8:], what="f")


def test_parts_cover_the_file_exactly() -> None:
    parts = plan_parts(header())
    ends = [part.start + part.size_bytes for part in parts]
    assert [part.start for part in parts] == [0, *ends[:-1]]
    assert ends[-1] == header().file_bytes


def test_every_element_is_in_exactly_one_piece() -> None:
    seen = dict.fromkeys(SPECS, 0)
    for part in plan_parts(header()):
        assert sum(piece.num_bytes for piece in part.pieces) == (part.size_bytes if part.pieces else 0)
        for piece in part.pieces:
            assert piece.first == seen[piece.tensor.name]
            seen[piece.tensor.name] += piece.num_elements
    assert seen == {name: spec.num_elements for name, spec in header().schema.items()}


def test_a_part_holds_whole_tensors_or_one_piece_of_one() -> None:
    for part in plan_parts(header()):
        pieces_of_whole = [piece.num_elements == piece.tensor.spec.num_elements for piece in part.pieces]
        assert all(pieces_of_whole) or len(part.pieces) == 1
        assert part.size_bytes <= MIN_PART_BYTES or not part.pieces


def test_large_tensors_are_cut_at_blocks_of_the_digest() -> None:
    pieces = [piece for part in plan_parts(header()) for piece in part.pieces]
    assert all(size_of(piece.tensor.spec.dtype, piece.first) % BLOCK_BYTES == 0 for piece in pieces)
    assert sum(piece.tensor.name == "huge" for piece in pieces) == 98


def test_cuts_do_not_depend_on_metadata() -> None:
    plain, described = header(), header(metadata={"note": "x" * 1000})
    sizes = [[part.size_bytes for part in plan_parts(h)[1:]] for h in (plain, described)]
    assert sizes[0] == sizes[1]
    assert plan_parts(described)[0].size_bytes == described.size_bytes > plain.size_bytes


def test_a_tensor_that_does_not_change_its_size_keeps_its_cut_when_others_come_after_it() -> None:
    first = dict(list(SPECS.items())[:2])
    before, after = plan_parts(header(first)), plan_parts(header())
    assert [p.size_bytes for p in before[1:]] == [p.size_bytes for p in after[1 : len(before)]]


def test_a_file_of_terabytes_has_few_parts() -> None:
    parts = plan_parts(header({"a": ("F32", (1 << 20, 1 << 20))}))
    assert len(parts) == 1 + 4096
    assert {part.size_bytes for part in parts[1:]} == {1 << 30}


def test_a_file_of_empty_tensors_is_one_part() -> None:
    assert [part.pieces for part in plan_parts(header({"a": ("F32", (0,)), "b": ("I8", (2, 0))}))] == [()]


def test_other_files_are_cut_at_multiples_of_the_part_size() -> None:
    for size in (0, 1, MIN_PART_BYTES - 1, MIN_PART_BYTES, MIN_PART_BYTES + 1, 5 * MIN_PART_BYTES):
        parts = plan_plain_parts(size)
        assert sum(part.size_bytes for part in parts) == size
        assert all(part.start % MIN_PART_BYTES == 0 and part.size_bytes > 0 for part in parts)
