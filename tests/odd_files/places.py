"""Folders, several files, and what is not there."""

import os
import socket

from odd_files.case import FILMS, PLAIN, read, refused, table

HALF = FILMS[:5], FILMS[5:]
TSV = table(PLAIN, header="text\tlabel", separator="\t")


def a_socket(path) -> None:
    """Bind a socket by its name alone: a whole path may be too long for one."""
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


CASES = [
    read("two files", {"a.csv": table(HALF[0]), "b.csv": table(HALF[1])}, data=["a.csv", "b.csv"], says=["a.csv", "b.csv"]),
    read("files of two kinds", {"a.csv": table(FILMS), "b.tsv": TSV}, [*FILMS, *PLAIN], data=["a.csv", "b.tsv"]),
    read("files with columns in another order",
         {"a.csv": table(HALF[0]), "b.csv": table([r[::-1] for r in HALF[1]], header="label,text")}, data=["a.csv", "b.csv"]),
    read("files with classes of their own", {"a.csv": table([("x", "a"), ("y", "b")] * 4), "b.csv": table([("z", "c")] * 4)},
         [("x", "a"), ("y", "b")] * 4 + [("z", "c")] * 4, data=["a.csv", "b.csv"], says=["3 classes"]),
    read("files with numbers in two forms", {"a.csv": table([("x", "0"), ("y", "1")] * 4), "b.csv": table([("z", "1.0")] * 4)},
         [("x", "0"), ("y", "1")] * 4 + [("z", "1")] * 4, data=["a.csv", "b.csv"]),
    read("a folder of one file", {"in/a.csv": table(FILMS)}, data=["in"]),
    read("a folder of parts", {"in/p-1.csv": table(HALF[1]), "in/p-0.csv": table(HALF[0]), "in/README.md": "#", "in/.x.csv": "x"},
         data=["in"]),
    read("a folder of parts of training", {"in/train-0.csv.gz": table(HALF[0]), "in/train-1.csv.gz": table(HALF[1])}, data=["in"]),
    read("a folder and a file", {"in/a.csv": table(HALF[0]), "b.csv": table(HALF[1])}, data=["in", "b.csv"]),
    read("a card in a folder", {"in/a.csv": table([(f"t{n}", str(n % 2)) for n in range(8)]),
                                "in/card.json": '{"label_names": ["no", "yes"]}'},
         [(f"t{n}", ("no", "yes")[n % 2]) for n in range(8)], data=["in"]),
    read("a name with spaces and letters of all kinds", {"my dáta (1) 漢.csv": table(FILMS)}),
    read("a name that is not UTF-8", {"caf\udce9.csv": table(FILMS)}, says=["caf\\udce9.csv"]),
    read("a name with a line end", {"a\nb.csv": table(FILMS)}, says=["a\\nb.csv"]),
    read("a name that looks like an option", {"-x.csv": table(FILMS)}),
    read("a link", {"link.csv": lambda path: path.symlink_to("a.csv"), "a.csv": table(FILMS)}),

    refused("nothing there", {"a.csv": "x"}, "no such file or folder", data=["b.csv"]),
    refused("nothing there, nor its folder", {"a.csv": "x"}, "there is no folder", data=["no/b.csv"]),
    refused("a link to nothing", {"a.csv": lambda path: path.symlink_to("gone.csv")}, "a link to what is not there"),
    refused("a file as a folder", {"a.csv": table(FILMS)}, "a.csv", data=["a.csv/b.csv"]),
    refused("a name that is too long", {"a.csv": "x"}, "cannot be read", data=["x" * 300]),
    refused("the same file twice", {"a.csv": table(FILMS)}, "given twice", data=["a.csv", "a.csv"]),
    refused("a file and its folder", {"in/a.csv": table(FILMS)}, "given twice", data=["in/a.csv", "in"]),
    refused("an empty folder", {"in/.hidden": ""}, "without a data file", "it holds none", data=["in"]),
    refused("a model's folder", {"in/config.json": "{}", "in/model.safetensors": "x"}, "without a data file",
            "config.json, model.safetensors", data=["in"]),
    refused("a folder of folders", {"in/train/a.csv": table(FILMS)}, "it holds train/", data=["in"]),
    refused("a folder of training and test data", {"in/train.csv": table(FILMS), "in/test.csv": table(FILMS)},
            "several parts", "test.csv, train.csv", data=["in"]),
    refused("a folder of a file and the same packed", {"in/a.csv": table(FILMS), "in/a.csv.gz": table(FILMS)}, "both packed",
            data=["in"]),
    refused("a folder of several kinds", {"in/a.csv": table(FILMS), "in/a.tsv": TSV}, "several kinds", data=["in"]),
    refused("a folder of datasets' parts", {"in/dataset_dict.json": "{}", "in/train/data.arrow": "x", "in/test/data.arrow": "x"},
            "name the folder of one: test, train", data=["in"]),
    refused("a socket", {"a.csv": a_socket}, "is no file, folder or pipe"),
    refused("a second file without the column", {"a.csv": table(FILMS), "b.csv": table(FILMS, header="body,label")},
            "b.csv: no column 'text'", data=["a.csv", "b.csv"]),
    refused("a second file that is broken", {"a.csv": table(FILMS), "b.csv": "text,label\na,b,c\n"}, "b.csv: line 2",
            data=["a.csv", "b.csv"]),
    refused("files whose classes have other names", {"a/a.csv": table([("x", "0"), ("y", "1")] * 4),
            "a/card.json": '{"label_names": ["no", "yes"]}', "b/b.csv": table([("x", "0")] * 4),
            "b/card.json": '{"label_names": ["yes", "no"]}'}, "its classes are yes, no", data=["a/a.csv", "b/b.csv"]),
]  # fmt: skip
