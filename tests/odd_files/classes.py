"""Labels: never merged, never dropped without a word."""

import json

from odd_files.case import Odd, lines, read, refused


def labelled(name: str, *labels: str, classes: dict[str, str | None] | None = None, **more: object) -> Odd:
    """Make a CSV file of these labels; `classes` says what each is read as, where it is not as written."""
    meant = {label: (classes or {}).get(label, label) for label in labels}
    every = [(f"text {n}", label) for n in range(4) for label in labels]
    rows = [(text, meant[label]) for text, label in every if meant[label] is not None]
    left_out = (0, sum(meant[label] is None for _, label in every))
    content = lines("text,label", *(f"{text},{label}" for text, label in every))
    return read(name, content, rows, left_out=left_out, **more)


def typed(name: str, *labels: object, classes: list[str | None], **more: object) -> Odd:
    """Make a file of JSON lines of these values, and what each is read as."""
    every = [(f"text {n}", label, meant) for n in range(4) for label, meant in zip(labels, classes, strict=True)]
    content = lines(*(json.dumps({"text": text, "label": label}) for text, label, _ in every))
    rows = [(text, meant) for text, _, meant in every if meant is not None]
    left_out = (0, len(every) - len(rows))
    return read(name, {"data.jsonl": content}, rows, left_out=left_out, **more)


def refused_values(name: str, *labels: object, says: tuple[str, ...]) -> Odd:
    content = lines(*(json.dumps({"text": f"t{n}", "label": label}) for n in range(4) for label in labels))
    return refused(name, {"data.jsonl": content}, *says)


CASES = [
    labelled("leading zeros", "01", "1", "001", says=["labels such as '0", "taken as names"]),
    labelled("underscores", "1_1", "11"),
    labelled("exponents", "1e1", "10"),
    labelled("ids beyond 2^53", "9007199254740993", "9007199254740992"),
    labelled("ids beyond 2^64", "36893488147419103233", "36893488147419103232"),
    labelled("ids of thirty digits with .0", "123456789012345678901234567890.0", "123456789012345678901234567891.0",
             classes={f"12345678901234567890123456789{n}.0": f"12345678901234567890123456789{n}" for n in "01"}),
    labelled("plus signs", "+1", "1"),
    labelled("minus zero", "-0", "0"),
    labelled("full-width digits", "１", "1"),
    labelled("two decimals", "1.00", "1", "2"),
    labelled("hexadecimal", "0x1", "1"),
    labelled("infinity", "inf", "1", "Infinity"),
    labelled("fractions in words", "1/2", "2/4"),
    labelled("numbers with spaces inside", "1 0", "10"),
    labelled("post codes", "01067", "1067", "80331"),
    labelled("numbers of one size as names", "007", "07"),
    labelled("plain numbers", "10", "9", "-1"),
    labelled("pandas' numbers beside missing ones", "0.0", "1.0", classes={"0.0": "0", "1.0": "1"}),
    labelled("numbers of two files in one", "0", "1", "1.0", classes={"1.0": "1"}),
    labelled("nan beside numbers", "0.0", "1.0", "nan", classes={"0.0": "0", "1.0": "1", "nan": None},
             says=["4 without label", "4 labels 'nan' beside numbers, which means none"]),
    labelled("NA beside numbers", "0", "1", "NA", classes={"NA": None}),
    labelled("null and None beside numbers", "0", "1", "null", "None", classes={"null": None, "None": None}),
    labelled("N/A beside numbers with zeros before", "01", "02", "#N/A", classes={"#N/A": None}),
    labelled("None as a class", "None", "ham", "spam", says=["'None' is taken for a class"]),
    labelled("NA and nan as classes", "NA", "EU", "nan", says=["'NA', 'nan' is taken for a class"]),
    labelled("upper and lower case", "Ham", "ham", says=["stay apart: 'Ham', 'ham'"]),
    labelled("accents", "café", "cafe"),
    labelled("accents written in two ways", "caf\u00e9", "cafe\u0301"),
    labelled("spaces around labels", "ham", " ham ", "spam", classes={" ham ": "ham"},
             says=["differ only in spaces around them are one class: 'ham'"]),
    labelled("truths", "true", "false", "True"),
    labelled("yes and no", "yes", "no"),
    labelled("numbers and words", "7", "seven"),
    labelled("emoji", "😀", "😢"),
    labelled("empty labels", "a", "b", "", classes={"": None}),
    labelled("labels with a colon and an escape", "a:b", "a\x07b".replace("\x07", "/")),

    typed("NaN beside numbers", 0.0, 1.0, float("nan"), classes=["0", "1", None], says=["4 without label"]),
    typed("null beside words", "a", "b", None, classes=["a", "b", None]),
    typed("truths", True, False, classes=["true", "false"]),
    typed("truths and numbers", True, 1, classes=["true", "1"]),
    typed("numbers and their texts", 1, "1", "0", classes=["1", "1", "0"]),
    typed("numbers and texts that are not theirs", 1, "01", classes=["1", "01"]),
    typed("whole floats", 2.0, 1.0, classes=["2", "1"]),
    typed("big numbers", 9007199254740993, 9007199254740992, classes=["9007199254740993", "9007199254740992"]),
    typed("infinity", 1e999, 1.0, classes=["inf", "1.0"]),
    typed("a missing class beside None as text", "None", None, "x", classes=["None", None, "x"]),
    refused_values("lists", ["a"], ["b"], says=("line 1", "holds a list", "--label-column")),
    refused_values("objects", {"a": 1}, says=("line 1", "holds a dict")),
    refused_values("decimals", 0.5, 1.5, says=("decimal numbers",)),
    refused_values("a label with NUL", "a", "b\x00", says=("line 2", "'b\\x00'")),
    refused_values("a label with half a pair", "a", "\ud83d", says=("line 2", "\\ud83d")),
    refused_values("one class and None", 1, 1, "None", says=("every row has the label '1'", "4 more rows lack")),
    refused("decimals and whole numbers", lines("text,label", *(f"t{n},{n % 3 / 2}" for n in range(12))), "decimal"),

    read("names on a card", {"data.csv": lines("text,label", *(f"t{n},{n % 2}" for n in range(8))),
                             "card.json": '{"label_names": ["no", "yes"]}'},
         [(f"t{n}", ("no", "yes")[n % 2]) for n in range(8)]),
    read("a card of another kind", {"data.csv": lines("text,label", *(f"t{n},{n % 2}" for n in range(8))),
                                    "card.json": "[1"}, [(f"t{n}", str(n % 2)) for n in range(8)]),
    refused("a card with a name twice", {"data.csv": lines("text,label", *(f"t{n},{n % 2}" for n in range(8))),
                                         "card.json": '{"label_names": ["no", "no"]}'}, "'no' is named twice"),
    refused("a label that the card lacks", {"data.csv": lines("text,label", *(f"t{n},{n % 3}" for n in range(9))),
                                            "card.json": '{"label_names": ["no", "yes"]}'}, "label '2' is not one"),
    read("negative numbers beside a card", {"data.csv": lines("text,label", *(f"t{n},{n % 3 - 1}" for n in range(12))),
                                            "card.json": '{"label_names": ["no", "yes"]}'},
         [(f"t{n}", ("no", "yes")[n % 3 - 1]) for n in range(12) if n % 3], left_out=(0, 4),
         says=["4 negative labels, which mean none"]),
]  # fmt: skip
