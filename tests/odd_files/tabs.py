"""Tab-separated files: quotes are letters in GLUE's, marks in those of pandas and Excel, and rows are never glued."""

import csv
import io

from odd_files.case import FILMS, lines, read, refused


def tsv(*rows: tuple[str, ...], header: str = "text\tlabel", ending: str = ".tsv") -> dict[str, str]:
    return {f"data{ending}": lines(header, *("\t".join(row) for row in rows))}


def written(rows, quoting: int = csv.QUOTE_MINIMAL, end: str = "\n") -> dict[str, str]:
    """Write as pandas' to_csv(sep="\\t") does."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t", quoting=quoting, lineterminator=end)
    writer.writerows([("text", "label"), *rows])
    return {"data.tsv": file.getvalue()}


STRAY = [(f'"{text}' if n in (2, 5) else text, label) for n, (text, label) in enumerate(FILMS)]
ENDS = [(f'{text}"' if n in (2, 5) else text, label) for n, (text, label) in enumerate(FILMS)]
WHOLE = [(f'"{text}"' if n in (2, 5) else text, label) for n, (text, label) in enumerate(FILMS)]
BARE = [(f'a "{word}" word', label) for word, label in (("good", "pos"), ("bad", "neg"))] * 5
SPOKEN = [(f'"{text}" she said', label) for text, label in FILMS]
TABBED = [*FILMS, ("before\tbehind", "pos")]
BROKEN = [*FILMS, ("first line\nsecond line", "pos")]
GLUED = [("x", "good"), ('"first', "bad"), ('second"', "good"), *FILMS]

CASES = [
    read("stray quotes at the beginning of two texts", tsv(*STRAY), STRAY, says=["quotes are letters"]),
    read("stray quotes at the end of two texts", tsv(*ENDS), ENDS),
    read("a stray quote at the beginning and one at the end", tsv(*GLUED), GLUED),
    read("texts that stand in quotes by themselves", tsv(*WHOLE), WHOLE, says=["quotes are letters"]),
    read("one stray quote in the last row", tsv(*FILMS, ('"last', "pos")), [*FILMS, ('"last', "pos")]),
    read("quotes inside texts", tsv(*BARE), BARE),
    read("spoken sentences, unquoted", tsv(*SPOKEN), SPOKEN),
    read("label first, stray quotes", tsv(*[(b, a) for a, b in STRAY], header="label\ttext"), STRAY),
    read("a stray quote in a column that nobody reads", tsv(*[('"', *row) for row in FILMS], header="n\ttext\tlabel")),
    read("stray quotes in .txt", tsv(*STRAY, ending=".txt"), STRAY),
    read("stray quotes in .csv", tsv(*STRAY, ending=".csv"), STRAY, says=["separator tab, quotes are letters"]),
    read("stray quotes in .tab", tsv(*STRAY, ending=".tab"), STRAY),
    read("pandas' minimal quotes around quotes", written(BARE), BARE, says=["quoted cells"]),
    read("pandas' minimal quotes around spoken sentences", written(SPOKEN), SPOKEN),
    read("pandas' quotes around a tab", written(TABBED), TABBED),
    read("pandas' quotes around a line end", written(BROKEN), BROKEN),
    read("pandas' quotes around all", written(FILMS, csv.QUOTE_ALL)),
    read("pandas' quotes around all, and Windows' line ends", written(FILMS, csv.QUOTE_ALL, "\r\n")),
    read("Excel's quotes around commas",
         tsv(*[(f'"{text}"' if "," in text else text, label) for text, label in [*FILMS, ("no comma", "pos")]]),
         [*FILMS, ("no comma", "pos")]),
    read("quoted names alone", tsv(*FILMS, header='"text"\t"label"')),
    read("empty quoted cells", written([*FILMS, ("", "pos"), ("alone", "")], csv.QUOTE_ALL), left_out=(1, 1)),
    read("GLUE's pairs with stray quotes",
         tsv(*[("0", f'"{text}', 'he said "so', label) for text, label in FILMS],
             header="index\tsentence1\tsentence2\tlabel"),
         [(f'"{text}', 'he said "so', label) for text, label in FILMS]),
    read("a tab at the end of every row", tsv(*[(*row, "") for row in FILMS])),
    read("backslashes are letters", tsv(*[(f"{text}\\n\\t", label) for text, label in FILMS]),
         [(f"{text}\\n\\t", label) for text, label in FILMS]),

    refused("a row with a cell too many", tsv(*FILMS, ("a", "b", "c")), "line 12 has 3 cells, expected 2"),
    refused("a row with a cell too few", tsv(*FILMS, ("alone",)), "line 12 has 1 cell, expected 2"),
    refused("stray quotes and a row too short", tsv(*STRAY, ("alone",), *FILMS), "line 12 has 1 cell",
            "quotes are letters"),
    refused("stray quotes that would glue, and a row too short", tsv(*GLUED, ("alone",)), "line 15 has 1 cell"),
    refused("a line end in an unquoted text", {"data.tsv": "text\tlabel\nfirst\nsecond\tpos\n"}, "line 2 has 1 cell"),
    refused("no header", {"data.tsv": lines(*("\t".join(row) for row in FILMS))}, "first line must name the columns"),
]  # fmt: skip
