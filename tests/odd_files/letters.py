"""Encodings, marks at the beginning, and characters that are none."""

import codecs

from odd_files.case import FILMS, Odd, read, refused, table

ACCENTED = [(f"{text} – très «bon», Zoë’s naïve café", label) for text, label in FILMS]
CONTENT = table(ACCENTED)
GREEK = [(f"{text} καλή ταινία", label) for text, label in FILMS]
CHINESE = [(f"{text} 一部好电影", label) for text, label in FILMS]
SIMPLE = [(f"{text} café", label) for text, label in FILMS]


def encoded(name: str, encoding: str, rows: list[tuple[str, str]] = ACCENTED, mark: bytes = b"", **more: object) -> Odd:
    return read(name, mark + table(rows).encode(encoding), rows, **more)


CASES = [
    encoded("UTF-8", "utf-8"),
    encoded("UTF-8 with a mark", "utf-8", mark=codecs.BOM_UTF8),
    encoded("UTF-8 with two marks", "utf-8", mark=codecs.BOM_UTF8 * 2),
    encoded("UTF-8 with a mark, and said so", "utf-8", mark=codecs.BOM_UTF8, options={"encoding": "utf8"}),
    encoded("UTF-16, least byte first", "utf-16-le", mark=codecs.BOM_UTF16_LE, says=["UTF-16"]),
    encoded("UTF-16, most byte first", "utf-16-be", mark=codecs.BOM_UTF16_BE, says=["UTF-16"]),
    encoded("UTF-16 with a mark, and said so", "utf-16-le", mark=codecs.BOM_UTF16_LE, options={"encoding": "utf-16"}),
    encoded("UTF-16 with a mark, its order said", "utf-16-le", mark=codecs.BOM_UTF16_LE, options={"encoding": "utf-16-le"}),
    encoded("UTF-16 without a mark, said so", "utf-16-le", options={"encoding": "utf-16-le"}),
    encoded("UTF-32", "utf-32-le", mark=codecs.BOM_UTF32_LE),
    encoded("Windows' letters", "cp1252", options={"encoding": "cp1252"}, says=["CP1252"]),
    encoded("Latin-1", "latin-1", SIMPLE, options={"encoding": "latin-1"}),
    read("Windows' letters, said to be Latin-1", CONTENT.encode("cp1252"),
         [(text.encode("cp1252").decode("latin-1"), label) for text, label in ACCENTED], options={"encoding": "latin-1"},
         says=["10 texts with control characters", "--text-encoding cp1252"]),
    encoded("Latin-1 by another name", "latin-1", SIMPLE, options={"encoding": "ISO-8859-1"}),
    encoded("Greek letters of Windows", "cp1253", GREEK, options={"encoding": "cp1253"}),
    encoded("Chinese letters", "gb18030", CHINESE, options={"encoding": "gb18030"}),
    encoded("Japanese letters", "shift_jis", [(f"{t} 日本の映画", label) for t, label in FILMS], options={"encoding": "shift_jis"}),
    encoded("letters of a mainframe", "cp500", FILMS, options={"encoding": "cp500"}),
    encoded("plain letters, said to be Latin-1", "ascii", FILMS, options={"encoding": "latin-1"}),
    read("Unicode text of Excel: UTF-16 with tabs",
         {"data.txt": codecs.BOM_UTF16_LE + table(ACCENTED, header="text\tlabel", separator="\t").encode("utf-16-le")},
         ACCENTED, says=["separator tab, UTF-16"]),
    read("JSON lines in UTF-16", {"data.jsonl": codecs.BOM_UTF16_LE
         + "".join(f'{{"text": "{t}", "label": "{label}"}}\n' for t, label in ACCENTED).encode("utf-16-le")}, ACCENTED),
    read("a NUL in a text", table([*FILMS, ("a\x00b", "pos")]), [*FILMS, ("a\ufffdb", "pos")],
         says=["1 text with characters that are none", "line 12"]),
    read("a NUL far behind", table([*FILMS * 30, ("a\x00b", "pos")]), [*FILMS * 30, ("a\ufffdb", "pos")],
         says=["1 text with characters that are none", "line 302"]),
    read("controls of a terminal", table([*FILMS, ("a\x1b[31mb\x08\x7f", "pos")]), [*FILMS, ("a\ufffd[31mb\ufffd\ufffd", "pos")]),
    read("a mark inside", table([*FILMS, ("a\ufeffb", "pos")]), [*FILMS, ("a\ufeffb", "pos")]),
    read("a mark within the quotes of the header", '\ufeff"text",label\n' + table(FILMS).partition("\n")[2]),
    read("invisible and right-to-left letters", table([("\u200bשלום\u202e", "pos"), ("\u00a0x", "neg")] * 5),
         [("\u200bשלום\u202e", "pos"), ("\u00a0x", "neg")] * 5),

    refused("Windows' letters, not said", CONTENT.encode("cp1252"), "line 2, byte 24 (0x96): is not UTF-8", "--text-encoding",
            "cp1252"),
    refused("Latin-1 in the header", table(FILMS, header="text,label,größe").encode("latin-1"), "line 1", "not UTF-8"),
    refused("Latin-1 in .jsonl", {"data.jsonl": '{"text": "é"}\n'.encode("latin-1")}, "line 1, byte 11 (0xe9): is not UTF-8"),
    refused("Latin-1 in .tsv", {"data.tsv": "text\tlabel\na\tb\né\tb\n".encode("latin-1")}, "line 3, byte 1 (0xe9)"),
    refused("UTF-8, said to be Latin-1", CONTENT, "is UTF-8 from beginning to end", options={"encoding": "latin-1"}),
    refused("UTF-8 with a mark, said to be cp1252", "\ufeff" + CONTENT, "mark of utf-8", options={"encoding": "cp1252"}),
    refused("UTF-16 without a mark, not said", CONTENT.encode("utf-16-le"), "--text-encoding utf-16-le"),
    refused("UTF-16 without a mark, most byte first", table(FILMS).encode("utf-16-be"), "--text-encoding utf-16-be"),
    refused("UTF-16 that is cut off", codecs.BOM_UTF16_LE + CONTENT.encode("utf-16-le")[:-1], "is not UTF-16"),
    refused("Greek, said to be ASCII", table(GREEK).encode("cp1253"), "line 2", "is not ASCII", options={"encoding": "ascii"}),
    refused("an encoding that is none", CONTENT, "--text-encoding klingon: no such encoding", options={"encoding": "klingon"}),
    refused("an encoding that is not of text", CONTENT, "--text-encoding base64: no such encoding", options={"encoding": "base64"}),
    refused("surrogates as bytes", b"text,label\n\xed\xa0\xbd,pos\n", "line 2, byte 1 (0xed)"),
    refused("a label with a control character", table([*FILMS, ("a", "p\x01s")]), "line 12", "'p\\x01s'"),
]  # fmt: skip
