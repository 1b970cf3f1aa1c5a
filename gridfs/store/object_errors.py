"""What an answer of an S3 server means: from its status and error code to the classes of `gridfs.errors`.

All clients come here: obstore (objects_client.py), the short way of reads (objects.py) and aiobotocore (s3.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gridfs.errors import (
    AccessDenied,
    CredentialsRefused,
    GridfsError,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreRefused,
    StoreUnavailable,
    StoreUnreachable,
)

_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,400})</Message>")

_WRONG_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"})
_WRONG_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said instead of doing it."""

    status: int | None
    """None: there was no answer."""
    code: str | None
    """S3's error code, where the answer had a body."""
    message: str
    nobody_there: bool = False
    """The address has no server: another attempt a moment later finds none either."""

    @property
    def said(self) -> str:
        words = [str(self.status or ""), self.code or "", self.message]
        return " ".join(word for word in words if word)


def parse_refusal(status: int, text: str) -> Answer:
    """The answer of a status and the XML that came with it, which may stand among other text."""
    code, message = _CODE.search(text), _MESSAGE.search(text)
    return Answer(status, code and code[1], message[1] if message else "")


def error_of(answer: Answer, *, where: str, key: str | None) -> GridfsError:
    """The exception for *answer* to a request for *key* of the bucket or store *where*."""
    what = where if key is None else f"{where.rstrip('/')}/{key}"
    status, code = answer.status, answer.code
    if status is None:
        remedy = "check the network and --endpoint-url"
        kind = StoreUnreachable if answer.nobody_there else StoreUnavailable
        return kind(f"{what} can't be reached ({answer.said})", remedy=remedy)
    if status >= 500 or status == 429 or code in ("RequestTimeout", "SlowDown", "Throttling"):
        if status == 501:
            return StoreRefused(f"{what}: the server does not support the operation ({answer.said})")
        return StoreUnavailable(f"{what}: {answer.said}")
    if code == "NoSuchBucket":
        return NotFound(f"there is no bucket for {where}", remedy="check its name, and --endpoint-url")
    if status == 404:
        return ObjectMissing(f"there is no object {what}")
    if status == 412:
        return ObjectChanged(f"{what} is not the object it was")
    if status == 409:  # ConditionalRequestConflict: another create-only put of this key is under way
        return StoreUnavailable(f"{what}: {answer.said}")
    if status == 416:
        return StoreRefused(f"{what} is shorter than expected ({answer.said})")
    if code == "InvalidObjectState":
        return AccessDenied(f"{what} is archived (Glacier)", remedy="restore it in S3 first")
    if code == "RequestTimeTooSkewed":
        return CredentialsRefused(f"{what}: {answer.said}", remedy="set this machine's clock")
    if code in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"):
        return CredentialsRefused(f"{what}: the credentials have expired", remedy="get new ones (`aws sso login`, ...)")
    if code in _WRONG_CREDENTIALS or status == 401:
        remedy = "check the credentials: --profile, or the AWS_* variables"
        return CredentialsRefused(f"{what}: {answer.said}", remedy=remedy)
    if code in _WRONG_REGION or status in (301, 307):
        return StoreRefused(f"{what} is in another region ({answer.said})", remedy="name it by --region")
    if status == 403:
        return AccessDenied(
            f"{what}: access denied ({answer.said})",
            remedy="check what the credentials allow (--profile, AWS_*), or --no-sign-request for a public bucket",
        )
    return StoreRefused(f"{what}: {answer.said}", remedy="check that the endpoint is an S3 server")
