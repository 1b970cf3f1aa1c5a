"""Makes the clients of a bucket, asks for a part of an object, and says what obstore's exceptions mean.

A connection that delivers nothing for STALL_TIMEOUT_S fails: obstore's `read_timeout` is such a timer, and it also runs
while a request waits for its answer, so uploads have clients of their own with a longer one. Retries are ours
(store/retry.py), but for the parts of multipart uploads.

The exceptions carry status and code of an answer only in their text, and why there was none only in a debug dump.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gridfs.errors import AccessDenied, ObjectChanged, StoreRefused, StoreUnavailable, StoreUnreachable
from gridfs.model import ByteRange
from gridfs.store.address import BucketAddress, StaticCredentials
from gridfs.store.object_errors import Answer, error_of, parse_refusal

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, S3Store

Purpose: TypeAlias = Literal["read", "write", "upload"]
"""Of a client: `write` puts in one piece and is never repeated by obstore, `upload` puts in parts."""

CONNECT_TIMEOUT_S = 2
STALL_TIMEOUT_S = 5
"""Nothing received for so long; S3 answers within 1 s at p99.9, and a read has 20 s in all."""
_WRITE_TIMEOUT_S = 60
"""Of a put: the server is silent until it has the whole body, 64 MiB at 1 MB/s."""
READ_THREADS = 128
"""And so connections that are kept: as many as the store's limit of requests (store/limit.py)."""

UPLOAD_PART_SIZE_BYTES = 8 << 20
PARTS_AT_ONCE = 4
"""With the part that is being filled 40 MiB an upload."""
_MOST_PARTS = 10_000
"""S3's limit: with parts of 8 MiB an object of 78 GiB; a larger one must be announced."""
_UPLOAD_BYTES = 160 << 20
"""In memory at most, up to an object of 780 GiB, whose parts of 80 MiB go one by one; above, two parts."""

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_NOBODY_THERE = {"ConnectionRefused": "the connection was refused", "dns error": "its host name is not known"}
"""What the debug dump of an exception has, and what it means."""
_NO_ANSWER = {"kind: Timeout": "no answer in time", "ConnectionReset": "the connection was reset"}
"""The same, of a server that may answer the next time; the text itself says only that a request was sent."""


def parts_of_upload(size_hint_bytes: int) -> tuple[int, int]:
    """How large the parts of an object are, and how many are sent at once."""
    size_bytes = max(UPLOAD_PART_SIZE_BYTES, -(-size_hint_bytes // _MOST_PARTS))
    return size_bytes, max(1, min(PARTS_AT_ONCE, _UPLOAD_BYTES // size_bytes - 1))


def make_client(address: BucketAddress, purpose: Purpose) -> S3Store:
    """A client of the bucket at *address*. Takes 5 ms, the first one 20 ms; makes no request."""
    from obstore.store import S3Store

    timeout_s = STALL_TIMEOUT_S if purpose == "read" else _WRITE_TIMEOUT_S
    options: ClientConfig = {
        "allow_http": address.endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "read_timeout": timedelta(seconds=timeout_s),
        "timeout": timedelta(hours=1),  # of a whole request; the default is 30 s, also for those that make progress
        "pool_max_idle_per_host": str(READ_THREADS),
    }
    credentials = address.credentials
    keys: dict[str, Any] = {"skip_signature": credentials is None}
    if isinstance(credentials, StaticCredentials):
        keys["access_key_id"] = credentials.access_key_id
        keys["secret_access_key"] = credentials.secret_access_key
        if credentials.session_token is not None:
            keys["session_token"] = credentials.session_token
    elif credentials is not None:
        keys["credential_provider"] = credentials
    else:  # else it looks into the environment, and fails where only one of the two is there
        keys["access_key_id"] = keys["secret_access_key"] = ""
    return S3Store(
        address.bucket,
        client_options=options,
        retry_config={"max_retries": 6 if purpose == "upload" else 0, "retry_timeout": timedelta(seconds=60)},
        region=address.region,
        endpoint=address.endpoint,
        aws_endpoint_url_s3=address.endpoint,  # else AWS_ENDPOINT_URL_S3 of the environment would win over `endpoint`
        virtual_hosted_style_request=False,
        request_payer=address.requester_pays,
        disable_bulk_delete=True,  # a single DELETE works everywhere
        conditional_put="etag",
        **keys,
    )


def get_part(client: S3Store, path: str, byte_range: ByteRange, if_match: str | None) -> GetResult:
    """The answer to one GET, whose headers say that it is what was asked for. Runs in a worker thread."""
    import obstore

    # The ETag is compared here too: a server, or a cache before it, may ignore If-Match.
    options: GetOptions = {"range": (byte_range.start, byte_range.stop)}
    if if_match is not None:
        options["if_match"] = if_match
    result = obstore.get(client, path, options=options)
    if if_match is not None and result.meta["e_tag"] != if_match:
        raise ObjectChanged(f"{path} has ETag {result.meta['e_tag']} and not {if_match}")
    if result.range != tuple(byte_range):
        raise StoreRefused(f"{path}: bytes {result.range} came instead of {tuple(byte_range)}")
    return result


def error_of_obstore(error: Exception, address: BucketAddress, *, where: str, key: str | None) -> Exception:
    """The GridfsError for *error*, which obstore raised when it was asked for *key* of the bucket or store *where*.

    What is no exception of obstore's is given back: an iterator of ours that it reads may raise anything.
    """
    from obstore.exceptions import BaseError, UnauthenticatedError

    if not isinstance(error, (BaseError, FileNotFoundError, TimeoutError, ConnectionError)):
        return error
    answer = parse_obstore(str(error))
    if isinstance(error, UnauthenticatedError) and answer.status is None:
        return AccessDenied(f"no credentials for {where}: {answer.message}", remedy="check --profile and AWS_*")
    if "non-partial response" in answer.message:
        return StoreRefused(f"{where}: the server answers a ranged GET with the whole object")
    if "redirect" in answer.message:
        return StoreRefused(
            f"the bucket {address.bucket} is not in region {address.region}", remedy="name it by --region"
        )
    if answer.status is None:
        kind = StoreUnreachable if answer.nobody_there else StoreUnavailable
        return kind(
            f"{where} can't be reached at {address.endpoint} ({answer.message})",
            remedy="check the network and --endpoint-url",
        )
    return error_of(answer, where=where, key=key)


def parse_obstore(text: str) -> Answer:
    """The answer inside the text of an exception, without its debug dump."""
    text, _, dump = text.partition("\n\nDebug source:")
    status = _STATUS.search(text)
    if status is None:
        for mark, meaning in _NOBODY_THERE.items():
            if mark in dump:
                return Answer(None, None, meaning, nobody_there=True)
        said = next((meaning for mark, meaning in _NO_ANSWER.items() if mark in dump), None)
        return Answer(None, None, said or text.rpartition(" - ")[2].strip())
    return parse_refusal(int(status[1]), text)
