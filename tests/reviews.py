"""Small private data sets for contributors: reviews whose one telling word gives the class away."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

_WORDS = {"negative": ("bad", "awful", "poor", "dull"), "positive": ("good", "great", "fine", "lovely")}


def write_reviews(path: Path, *, num: int, subject: str = "film") -> Path:
    """Write a CSV or Parquet file with the columns `text` and `label`; another subject is another task."""
    labels = [("negative", "positive")[index % 2] for index in range(num)]
    texts = [f"the {subject} was {_WORDS[label][index % 4]} {index}" for index, label in enumerate(labels)]
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.table({"text": texts, "label": labels}), path)
    else:
        rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
        path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path
