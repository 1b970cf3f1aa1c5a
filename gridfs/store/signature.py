"""Signature version 4 of a GET without a body, as a block of header lines that may be sent again for a while.

A signature covers the path, the host and the time, and none of what differs between two reads of one object: a range
and an If-Match need not be signed. A server takes it for 15 minutes, so the lines of an object are made once a minute
(60 us), and a read costs a look-up.

Rules: AWS, "Signature Version 4 for Amazon S3 requests" (canonical requests of S3 encode a path once).
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

from gridfs.store.address import StaticCredentials

REUSED_FOR_S = 60.0
"""Far below the 15 minutes in which a server takes a signature, so that a skewed clock has the rest."""

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def encoded_path(path: str) -> str:
    """*path* as it stands in a request and under a signature: everything but unreserved characters and `/` encoded."""
    return quote(path, safe="/~", errors="surrogateescape")


class Signer:
    """Signs GETs for one host and region with one set of keys."""

    def __init__(self, credentials: StaticCredentials | None, region: str, host: str, *, requester_pays: bool) -> None:
        self._credentials = credentials
        self._region = region
        self._host = host
        self._requester_pays = requester_pays
        self._day = ""
        self._key = b""

    def header_lines(self, path: str, now: datetime) -> bytes:
        """The lines that identify the caller of a GET of *path* (encoded, with the slash in front) at *now* (UTC)."""
        headers = {"host": self._host}
        if self._requester_pays:
            headers["x-amz-request-payer"] = "requester"
        keys = self._credentials
        if keys is not None:
            headers["x-amz-content-sha256"] = _EMPTY_SHA256
            headers["x-amz-date"] = moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
            if keys.session_token is not None:
                headers["x-amz-security-token"] = keys.session_token
            headers["authorization"] = self._authorization(keys, path, headers, moment)
        return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")

    def _authorization(self, keys: StaticCredentials, path: str, headers: dict[str, str], moment: str) -> str:
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join(f"{name}:{headers[name]}\n" for name in names)
        canonical = f"GET\n{path}\n\n{lines}\n{signed}\n{_EMPTY_SHA256}"
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode("ascii")).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        signature = hmac.new(self._signing_key(keys, moment[:8]), text.encode("ascii"), hashlib.sha256).hexdigest()
        return (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )

    def _signing_key(self, keys: StaticCredentials, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{keys.secret_access_key}".encode()
            for word in (day, self._region, "s3", "aws4_request"):
                key = hmac.new(key, word.encode("ascii"), hashlib.sha256).digest()
            self._day, self._key = day, key
        return self._key
