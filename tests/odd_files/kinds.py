"""Files that are packed, and files that are something else."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

from odd_files.case import FILMS, lines, read, refused, table

CSV = table(FILMS).encode()
JSONL = lines(*(json.dumps({"text": text, "label": label}) for text, label in FILMS)).encode()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), CSV)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("data.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))
    return file.getvalue()


SHEET, DOCUMENT = zipped("[Content_Types].xml", "xl/workbook.xml"), zipped("word/document.xml")

CASES = [
    read("CSV by gzip", {"data.csv.gz": gzip.compress(CSV, mtime=0)}),
    read("CSV by gzip, without saying so", {"data.csv": gzip.compress(CSV, mtime=0)}),
    read("not packed, but called so", {"data.csv.gz": CSV}),
    read("JSON lines by gzip", {"data.jsonl.gz": gzip.compress(JSONL, mtime=0)}),
    read("an array by gzip", {"data.json.GZ": gzip.compress(b"[" + b",".join(JSONL.splitlines()) + b"]", mtime=0)}),
    read("TSV by gzip", {"data.tsv.gz": gzip.compress(table(FILMS, header="text\tlabel", separator="\t").encode(), mtime=0)}),
    read("two parts by gzip, one behind the other", {"data.csv.gz": gzip.compress(CSV[:50], mtime=0) + gzip.compress(CSV[50:], mtime=0)}),
    read("CSV by bzip2", {"data.csv.bz2": bz2.compress(CSV)}),
    read("CSV by xz", {"data.csv.xz": lzma.compress(CSV)}),

    refused("nothing", {"data.csv": b""}, "is empty"),
    refused("nothing but a mark", {"data.csv": b"\xef\xbb\xbf\r\n"}, "is empty"),
    refused("nothing but blank lines", {"data.jsonl": b"\n\n \n"}, "is empty"),
    refused("nothing in Parquet", {"data.parquet": b""}, "is empty"),
    refused("nothing by gzip", {"data.csv.gz": gzip.compress(b"", mtime=0)}, "is empty"),
    refused("gzip that is cut off", {"data.csv.gz": gzip.compress(CSV, mtime=0)[:-20]}, "cannot be unpacked", "cut off"),
    refused("gzip that is damaged", {"data.csv.gz": gzip.compress(CSV, mtime=0)[:12] + b"\xff" * 40}, "cannot be unpacked"),
    refused("gzip with something behind", {"data.csv.gz": gzip.compress(CSV, mtime=0) + b"garbage"}, "cannot be unpacked"),
    refused("xz that is cut off", {"data.csv.xz": lzma.compress(CSV)[:-20]}, "cannot be unpacked"),
    refused("bzip2 that is cut off", {"data.csv.bz2": bz2.compress(CSV)[:-20]}, "cannot be unpacked"),
    refused("Excel", {"data.xlsx": SHEET}, "a spreadsheet", "save its sheet as CSV"),
    refused("Excel that is called CSV", {"data.csv": SHEET}, "a spreadsheet"),
    refused("old Excel", {"data.xls": b"\xd0\xcf\x11\xe0" + bytes(60)}, "save its sheet as CSV"),
    refused("a sheet of LibreOffice", {"data.ods": zipped("mimetype", "content.xml")}, "a spreadsheet"),
    refused("Word", {"data.docx": DOCUMENT}, "a document"),
    refused("PDF", {"data.pdf": b"%PDF-1.7\n"}, "a document"),
    refused("zip", {"data.zip": zipped("data.csv")}, "an archive; unpack it"),
    refused("zip that is called CSV", {"data.csv": zipped("data.csv")}, "an archive"),
    refused("zip that is damaged", {"data.zip": b"PK\x03\x04nothing"}, "an archive"),
    refused("tar", {"data.tar": tarred()}, "an archive"),
    refused("tar by gzip", {"data.tar.gz": gzip.compress(tarred(), mtime=0)}, "an archive"),
    refused("zstd", {"data.csv.zst": b"\x28\xb5\x2f\xfd\x00"}, "an archive"),
    refused("a pickle", {"data.pkl": pickle.dumps([1])}, "a pickle, which can run code"),
    refused("a pickle that is called CSV", {"data.csv": pickle.dumps({"text": ["a"]})}, "a pickle"),
    refused("a pickle by gzip", {"data.pkl.gz": gzip.compress(pickle.dumps([1]), mtime=0)}, "a pickle"),
    refused("an old pickle", {"data.pickle": pickle.dumps(["a"], protocol=0)}, "a pickle"),
    refused("saved tensors", {"data.pt": zipped("archive/data.pkl")}, "tensors"),
    refused("an array of NumPy", {"data.npy": b"\x93NUMPY\x01\x00" + bytes(60)}, "tensors"),
    refused("a database", {"data.db": b"SQLite format 3\x00" + bytes(60)}, "a database"),
    refused("a web page instead of a download", {"data.csv": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>"}, "a web page"),
    refused("XML", {"data.csv": b'<?xml version="1.0"?><rows/>'}, "a web page"),
    refused("a pointer of Git LFS", {"data.csv": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}, "git lfs pull"),
    refused("a picture", {"data.csv": b"\x89PNG\r\n\x1a\n" + bytes(40)}, "a picture"),
    refused("random bytes", {"data.bin2": bytes(range(256)) * 4}, "binary file"),
    refused("Avro", {"data.avro": b"Obj\x01\x04\x16avro.schema" + bytes(9)}, "save it as Parquet"),
    refused("prose", {"data.txt": b"Dear all,\n\nthis is no table.\n"}, "cannot tell which column holds the text"),
    refused("Parquet by gzip", {"data.parquet.gz": gzip.compress(b"PAR1\x15\x04" + bytes(30), mtime=0)}, "unpack it"),
]  # fmt: skip
