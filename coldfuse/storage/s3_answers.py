"""What an answer of S3 must hold before anybody relies on it.

botocore parses whatever comes, and leaves out what it does not find: a proxy's page with status 200 is an answer
without an etag. Here it is one that cannot be taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.parsers import ResponseParserError

_FIELDS: Mapping[str, Mapping[str, type]] = {
    "PutObject": {"ETag": str},
    "UploadPart": {"ETag": str},
    "CreateMultipartUpload": {"UploadId": str},
    "GetObject": {"ETag": str, "ContentLength": int},
    "HeadObject": {"ETag": str, "ContentLength": int, "Metadata": dict},
    "ListObjectsV2": {"IsTruncated": bool},
}


def check_answer(parsed: Mapping[str, Any], model: Any, **_: object) -> None:  # botocore's events are untyped
    """Refuse an answer that lacks what the store reads of it; an event's handler for `after-call`.

    Raises:
        ResponseParserError: It does.
    """
    if parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 200) >= 300:
        return
    for name, kind in _FIELDS.get(model.name, {}).items():
        value = parsed.get(name)
        if not isinstance(value, kind) or (isinstance(value, int) and value < 0):
            raise ResponseParserError(f"{model.name}: {name} is {str(value)[:80]!r}")
    for item in parsed.get("Contents", ()) if model.name == "ListObjectsV2" else ():
        if not isinstance(item.get("Key"), str):
            raise ResponseParserError(f"{model.name}: an entry without a key")
