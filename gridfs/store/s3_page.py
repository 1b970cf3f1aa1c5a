"""Reads a page of a listing four times as fast as botocore's general parser (1,000 keys: 5 instead of 20 ms).

It works through botocore's own event before parsing: the keys are taken out of the body here, and botocore parses the
little that is left. What is no well-formed page is left to botocore, whose error then says so.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from gridfs.store.base import ObjectHead

EVENT = "before-parse.s3.ListObjectsV2"
HEADS = "GridfsHeads"
"""Key of the parsed answer under which the ObjectHeads are."""

_REST = b"<ListBucketResult><IsTruncated>%s</IsTruncated>%s</ListBucketResult>"


def take_heads(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Handler of EVENT."""
    if response_dict["status_code"] != 200:
        return
    try:
        root = ET.fromstring(response_dict["body"])  # noqa: S314 - expat since 2.4.1 bounds what entities expand to
        namespace = root.tag.rpartition("}")[0]
        namespace = namespace + "}" if namespace else ""
        if root.tag != f"{namespace}ListBucketResult":
            return
        heads = _heads(root, namespace)
    except (ET.ParseError, ValueError, KeyError, TypeError):
        return
    token = root.findtext(f"{namespace}NextContinuationToken")
    truncated = root.findtext(f"{namespace}IsTruncated") == "true"
    rest = ET.Element("NextContinuationToken")
    rest.text = token
    customized_response_dict[HEADS] = heads
    response_dict["body"] = _REST % (b"true" if truncated else b"false", ET.tostring(rest) if token else b"")


def _heads(root: ET.Element, namespace: str) -> Sequence[ObjectHead]:
    encoded = root.findtext(f"{namespace}EncodingType") == "url"
    skip = len(namespace)
    heads = []
    for item in root.iter(f"{namespace}Contents"):
        fields = {element.tag[skip:]: element.text or "" for element in item}
        key, etag = fields["Key"], fields.get("ETag")
        heads.append(
            ObjectHead(
                unquote_plus(key) if encoded else key,
                int(fields["Size"]),
                etag if not etag or etag.startswith('"') else f'"{etag}"',
                _nanoseconds(fields["LastModified"]),
                fields.get("StorageClass"),
            )
        )
    return heads


def _nanoseconds(text: str) -> int:
    """Whole seconds: what a HEAD and a GET say of the same object."""
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000
