"""JSON in the shapes that people have."""

import json

from odd_files.case import FILMS, Odd, lines, read, refused

ROWS = [{"text": text, "label": label} for text, label in FILMS]
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}
BY_INDEX = {name: {str(n): value for n, value in enumerate(column)} for name, column in COLUMNS.items()}
AS_LINES = lines(*map(json.dumps, ROWS))


def one(
    name: str, value: object, *args: object, ending: str = ".json", indent: int | None = None, **more: object
) -> Odd:
    """Make a file of one value of JSON, which is read."""
    return read(name, {f"data{ending}": json.dumps(value, indent=indent)}, *args, **more)


def no(name: str, value: object, *says: str, ending: str = ".json") -> Odd:
    """Make a file of one value of JSON, or of a text that is none, which is refused."""
    return refused(name, {f"data{ending}": value if isinstance(value, str) else json.dumps(value)}, *says)


SURROGATE = [*ROWS, {"text": "half \ud83d here", "label": "pos"}, {"text": "whole \ud83d\ude00", "label": "neg"}]
READ_SURROGATE = [*FILMS, ("half \ufffd here", "pos"), ("whole \U0001f600", "neg")]

CASES = [
    read("lines", {"data.jsonl": AS_LINES}),
    read("lines in .json", {"data.json": AS_LINES}),
    read("lines in .csv", {"data.csv": AS_LINES}),
    read("lines in .txt", {"data.txt": AS_LINES}),
    read("lines of Windows, with blank ones", {"data.ndjson": AS_LINES.replace("\n", "\r\n\r\n")}),
    read("lines without an end", {"data.jsonl": AS_LINES.rstrip()}),
    read("lines with different keys", {"data.jsonl": lines(
        '{"label": "pos", "id": 1}', '{"text": "first", "label": "pos", "x": {"y": [1]}}', '{}', *map(json.dumps, ROWS),
        '{"note": "z", "label": "neg", "text": "last"}', '{"text": "no label"}')},
        [("first", "pos"), *FILMS, ("last", "neg")], left_out=(2, 1)),
    read("objects over several lines, one after the other", {"data.json": "\n".join(json.dumps(r, indent=2) for r in ROWS)}),
    read("objects without a line end between them", {"data.json": "".join(map(json.dumps, ROWS))}),
    one("an array", ROWS),
    one("an array with indents", ROWS, indent=2),
    one("an array in .jsonl", ROWS, ending=".jsonl"),
    one("an array in .txt", ROWS, ending=".txt"),
    one("pandas' default, by columns", BY_INDEX, says=["by columns"]),
    one("pandas' default with numbers for names", {"0": BY_INDEX["text"], "1": BY_INDEX["label"]},
        options={"text_column": "0", "label_column": "1"}),
    one("pandas' default with missing cells",
        {**BY_INDEX, "label": {**BY_INDEX["label"], "3": None}}, [*FILMS[:3], *FILMS[4:]], left_out=(0, 1)),
    one("pandas' orient=index", {str(n): row for n, row in enumerate(ROWS)}, says=["by rows"]),
    one("pandas' orient=split", {"columns": ["text", "label"], "index": list(range(10)), "data": [list(r) for r in FILMS]}),
    one("pandas' orient=table", {"schema": {"fields": [{"name": "text"}], "pandas_version": "1.4.0"}, "data": ROWS},
        says=["rows under 'data'"]),
    one("lists by columns", COLUMNS),
    one("lists by columns with indents", COLUMNS, indent=1),
    one("rows under data", {"version": "1.0", "data": ROWS}, says=["rows under 'data'"]),
    one("rows under another name", {"num": 10, "examples": ROWS}, says=["rows under 'examples'"]),
    read("halves of a surrogate pair", {"data.jsonl": lines(*map(json.dumps, SURROGATE))}, READ_SURROGATE,
         says=["1 text with characters that are none", "line 11"]),
    one("halves of a surrogate pair in an array", SURROGATE, READ_SURROGATE, says=["row 11"]),
    one("a NUL and other controls", [*ROWS, {"text": "a\x00b\x1b[1m\tc\n", "label": "pos"}],
        [*FILMS, ("a\ufffdb\ufffd[1m\tc\n", "pos")], says=["replaced by"]),
    read("NaN as a text", {"data.jsonl": AS_LINES + '{"text": NaN, "label": "pos"}\n{"text": "x", "label": NaN}\n'},
         left_out=(1, 1)),
    read("null and blank texts", {"data.jsonl": AS_LINES + '{"text": null, "label": "pos"}\n{"text": " ", "label": "neg"}\n'},
         left_out=(2, 0)),
    read("a mark at the beginning", {"data.jsonl": "\ufeff" + AS_LINES}),
    read("letters of all kinds", {"data.jsonl": lines(*(json.dumps(row | {"text": "ä漢😀\u2028"}, ensure_ascii=False)
         for row in ROWS))}, [("ä漢😀\u2028", label) for _, label in FILMS]),
    read("a deep value that nobody reads", {"data.jsonl": lines(*(json.dumps(row)[:-1] + ', "x": ' + "[" * 50 + "]" * 50
         + "}" for row in ROWS))}),

    no("a broken line", AS_LINES + '{"text": "cut of', "line 11 is not JSON", ending=".jsonl"),
    no("a broken first line", '{"text": oops}\n' + AS_LINES, "line 1 is not JSON", ending=".jsonl"),
    no("single quotes, as Python prints", str(ROWS[0]) + "\n" + AS_LINES, "line 1 is not JSON", ending=".jsonl"),
    no("a comma behind each line", AS_LINES.replace("\n", ",\n"), "line 1 is not JSON", ending=".jsonl"),
    no("an array that is cut off", json.dumps(ROWS)[:-5], "is not JSON", ending=".json"),
    no("an array that is cut off between rows", "[" + json.dumps(ROWS[0]) + ",\n", "is not JSON"),
    no("something behind an array", json.dumps(ROWS) + "\n[]", "line 2 is not JSON", "follows the array"),
    no("a list on a line", AS_LINES + "[1]\n", "line 11 holds a list", ending=".jsonl"),
    no("a text on a line", AS_LINES + '"x"\n', "line 11 holds a text", ending=".jsonl"),
    no("null in an array", [*ROWS, None], "row 11 holds null"),
    no("lists of values, without names", [list(row) for row in FILMS], "row 1 holds a list"),
    no("an empty array", [], "cannot tell which column holds the text", "columns are none"),
    no("an empty object", {}, "cannot tell which column holds the text"),
    no("objects in objects by name", {"a": ROWS[0], "b": ROWS[1]}, "cannot be told apart", "orient='records'"),
    no("columns of two lengths", {"text": ["a", "b"], "label": [1]}, "one length", "text 2, label 1"),
    no("several lists of rows", {"train": ROWS, "test": ROWS}, "several lists of rows (train, test)"),
    no("a name twice in a row", AS_LINES + '{"text": "a", "text": "b", "label": "pos"}\n', "line 11", "'text' is said twice",
       ending=".jsonl"),
    no("an object as text", lines(*['{"text": {"en": "x"}, "label": 1}'] * 9), "line 1", "holds dict instead of text"),
    no("a number as text in one line", AS_LINES + '{"text": 5, "label": "pos"}\n', "line 11", "holds int instead of text",
       ending=".jsonl"),
    no("very deep", lines(AS_LINES, '{"text": ' + "[" * 100_000), "line 12 is not JSON", "nested", ending=".jsonl"),
    no("a number of five thousand digits", AS_LINES + '{"text": "a", "label": ' + "9" * 5000 + "}\n", "line 11",
       ending=".jsonl"),
    no("a table in .json", "text,label\na,b\n", "line 1 is not JSON"),
    no("split with a row too short", {"columns": ["text", "label"], "data": [["a", "b"], ["c"]]}, "row 2 has 1 values"),
]  # fmt: skip
