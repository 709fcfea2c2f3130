"""Parquet and Arrow files."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from pyarrow import feather, ipc, parquet

from odd_files.case import FILMS, read, refused

TEXTS = [text for text, _ in FILMS]
LABELS = [label for _, label in FILMS]
FILM_TABLE = pa.table({"text": TEXTS, "label": LABELS})


def parquet_of(columns: object, **metadata: object) -> Callable[[Path], None]:
    made = columns if isinstance(columns, pa.Table) else pa.table(columns)
    noted = {name: json.dumps(value) for name, value in metadata.items()}
    return lambda path: parquet.write_table(made.replace_schema_metadata(noted or None), path)


def stream_of(made: pa.Table) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with ipc.new_stream(path, made.schema) as writer:
            writer.write_table(made, max_chunksize=3)

    return write


def classes(names: object) -> dict[str, object]:
    return {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}, "text": {"_type": "Value"}}}}


NUMBERED = {"text": TEXTS, "label": [int(label == "pos") for label in LABELS]}
NAMED = pa.table(NUMBERED).replace_schema_metadata({"huggingface": json.dumps(classes(["neg", "pos"]))})
UNLABELLED = {"text": [*TEXTS, "x"], "label": [*NUMBERED["label"], -1]}
TWICE = pa.table([TEXTS, LABELS, LABELS], names=["text", "label", "label"])

CASES = [
    read("Parquet", {"a.parquet": parquet_of(FILM_TABLE)}),
    read("Parquet, under another name", {"a.csv": parquet_of(FILM_TABLE)}),
    read("Parquet without an ending", {"a": parquet_of(FILM_TABLE)}),
    read("large strings", {"a.parquet": parquet_of({"text": pa.array(TEXTS, pa.large_string()), "label": LABELS})}),
    read("categories", {"a.parquet": parquet_of({"text": TEXTS, "label": pa.array(LABELS).dictionary_encode()})}),
    read("texts as categories", {"a.parquet": parquet_of({"text": pa.array(TEXTS).dictionary_encode(), "label": LABELS})}),
    read("other columns of any kind", {"a.parquet": parquet_of({
        "id": pa.array(range(10), pa.uint64()), "tokens": [["a"]] * 10, "extra": [{"a": 1}] * 10, "raw": [b"\xff"] * 10,
        "text": TEXTS, "price": [Decimal("1.5")] * 10, "label": LABELS})}),
    read("class labels", {"a.parquet": parquet_of(NUMBERED, huggingface=classes(["neg", "pos"]))}),
    read("class labels, one of which no row has", {"a.parquet": parquet_of(NUMBERED, huggingface=classes(["neg", "pos", "x"]))},
         says=["3 classes", "x 0"]),
    read("class labels with -1", {"a.parquet": parquet_of(UNLABELLED, huggingface=classes(["neg", "pos"]))},
         left_out=(0, 1), says=["1 negative label, which mean none"]),
    read("a note of another kind", {"a.parquet": parquet_of(NUMBERED, huggingface=[1])},
         [(text, "01"[label == "pos"]) for text, label in FILMS]),
    read("missing texts and labels", {"a.parquet": parquet_of({"text": [*TEXTS, None, "x"], "label": [*LABELS, "pos", None]})},
         left_out=(1, 1)),
    read("numbers with missing ones", {"a.parquet": parquet_of(
        {"text": TEXTS, "label": pa.array([0.0, 1.0] * 4 + [None, float("nan")])})},
        [(text, "01"[n % 2]) for n, text in enumerate(TEXTS[:8])], left_out=(0, 2)),
    read("truths", {"a.parquet": parquet_of({"text": TEXTS, "label": [True, False] * 5})},
         [(text, ("true", "false")[n % 2]) for n, text in enumerate(TEXTS)]),
    read("small integers", {"a.parquet": parquet_of({"text": TEXTS, "label": pa.array([1, 2] * 5, pa.int8())})},
         [(text, "12"[n % 2]) for n, text in enumerate(TEXTS)]),
    read("half floats", {"a.parquet": parquet_of({"text": TEXTS, "label": pa.array([1.0, 2.0] * 5, pa.float16())})},
         [(text, "12"[n % 2]) for n, text in enumerate(TEXTS)]),
    read("a name with a dot", {"a.parquet": parquet_of({"my.text": TEXTS, "label": LABELS})},
         options={"text_column": "my.text"}),
    read("pandas' index", {"a.parquet": parquet_of({"text": TEXTS, "label": LABELS, "__index_level_0__": list(range(10))})}),
    read("many row groups", {"a.parquet": lambda path: parquet.write_table(FILM_TABLE, path, row_group_size=3)}),
    read("Arrow, as datasets saves it", {"data-00000-of-00001.arrow": stream_of(NAMED)}),
    read("an Arrow file", {"a.arrow": lambda path: feather.write_feather(FILM_TABLE, path, compression="uncompressed")}),
    read("Feather", {"a.feather": lambda path: feather.write_feather(FILM_TABLE, path)}),
    read("an Arrow stream without an ending", {"a": stream_of(FILM_TABLE)}),
    read("a folder of datasets' save_to_disk", {
        "set/data-00000-of-00002.arrow": stream_of(NAMED.slice(0, 4)), "set/data-00001-of-00002.arrow": stream_of(NAMED.slice(4)),
        "set/dataset_info.json": "{}", "set/state.json": "{}"}, data=["set"], says=["data-00000", "data-00001"]),

    refused("texts that are lists", {"a.parquet": parquet_of({"text": [["a"]] * 9, "label": [1] * 9})}, "row 1",
            "holds list instead of text"),
    refused("texts that are objects", {"a.parquet": parquet_of({"text": [{"a": 1}] * 9, "label": [1] * 9})}, "holds dict"),
    refused("texts that are bytes", {"a.parquet": parquet_of({"text": [b"a"] * 9, "label": [1] * 9})}, "holds bytes"),
    refused("labels that are lists", {"a.parquet": parquet_of({"text": ["a"] * 9, "label": [[1]] * 9})}, "row 1", "a list"),
    refused("labels that are decimals", {"a.parquet": parquet_of({"text": ["a"] * 9, "label": [Decimal("1.5")] * 9})},
            "the labels are decimal numbers"),
    refused("labels that are times", {"a.parquet": parquet_of({"text": ["a"] * 9, "label": pa.array([1] * 9, pa.date32())})},
            "holds a date"),
    refused("labels that are times in nanoseconds", {"a.parquet": parquet_of(
        {"text": ["a"] * 9, "label": pa.array([1] * 9, pa.timestamp("ns"))})}, "a.parquet"),
    refused("class labels beyond the names", {"a.parquet": parquet_of(NUMBERED, huggingface=classes(["neg"]))},
            "label '1' is not one of the task's 1 classes"),
    refused("class labels named twice", {"a.parquet": parquet_of(NUMBERED, huggingface=classes(["neg", "neg"]))}, "named twice"),
    refused("two columns of one name", {"a.parquet": parquet_of(TWICE)}, "two columns have the same name 'label'"),
    refused("no column of a usual name", {"a.parquet": parquet_of({"a": TEXTS, "b": LABELS})}, "its columns are a, b"),
    refused("no rows", {"a.parquet": parquet_of(FILM_TABLE.slice(0, 0))}, "0 rows with text and label"),
    refused("Parquet that is cut off", {"a.parquet": b"PAR1\x15\x04" + bytes(50)}, "cannot be read"),
    refused("Parquet that is none", {"a.parquet": b"not at all"}, "does not begin as a Parquet file does"),
    refused("Arrow that is none", {"a.arrow": b"not at all"}, "does not begin as a Arrow file does"),
    refused("Arrow that is cut off", {"a.arrow": b"\xff\xff\xff\xff\x70\x01\x00\x00\x10\x00"}, "cannot be read"),
    refused("a separator for Parquet", {"a.parquet": parquet_of(FILM_TABLE)}, "--separator is for text files", "Parquet",
            options={"separator": ";"}),
    refused("an encoding for Parquet", {"a.parquet": parquet_of(FILM_TABLE)}, "--text-encoding is for text files",
            options={"encoding": "cp1252"}),
]  # fmt: skip
