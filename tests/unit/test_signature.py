"""gridfs.store.signature: the same signatures as botocore makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from gridfs.store.address import StaticCredentials
from gridfs.store.signature import Signer, encoded_path

NOW = datetime(2026, 11, 22, 10, 30, 5, tzinfo=UTC)
HOST = "s3.eu-west-3.example:9000"


class FixedTime(datetime):
    """For botocore, which asks for the time by itself."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return NOW

    @classmethod
    def utcnow(cls) -> datetime:  # type: ignore[override]
        return NOW.replace(tzinfo=None)


def by_botocore(keys: StaticCredentials, path: str, headers: dict[str, str]) -> str:
    request: Any = botocore.awsrequest.AWSRequest("GET", f"http://{HOST}{path}", headers=headers)
    request.context["payload_signing_enabled"] = True
    given = botocore.credentials.Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    with (
        mock.patch("botocore.auth.datetime.datetime", FixedTime, create=True),
        mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None), create=True),
    ):
        botocore.auth.S3SigV4Auth(given, "s3", "eu-west-3").add_auth(request)  # type: ignore[no-untyped-call]
    signed: str = request.headers["Authorization"]
    return signed


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize("requester_pays", [False, True])
@pytest.mark.parametrize("key", ["plain", "a b/c+d%20e", "ü/€😀", "x?y#z&w=1", "quote'\"<>", "~-_.", "a:b;c@d,e!*()"])
def test_it_is_the_signature_that_botocore_makes(key: str, requester_pays: bool, token: str | None) -> None:
    keys = StaticCredentials("AKIAEXAMPLE", "secret/with+signs", token)
    path = encoded_path(f"/bucket/{key}")
    lines = Signer(keys, "eu-west-3", HOST, requester_pays=requester_pays).header_lines(path, NOW)
    headers = dict(line.split(": ", 1) for line in lines.decode("ascii").splitlines())
    assert headers["host"] == HOST
    assert headers["x-amz-date"] == "20261122T103005Z"
    assert headers.get("x-amz-security-token") == token
    payer = {"x-amz-request-payer": "requester"} if requester_pays else {}
    assert headers["authorization"] == by_botocore(keys, path, {"host": HOST, **payer})


def test_without_keys_nothing_is_signed() -> None:
    lines = Signer(None, "eu-west-3", HOST, requester_pays=False).header_lines("/bucket/key", NOW)
    assert lines == f"host: {HOST}\r\n".encode()


def test_the_key_of_a_day_is_not_used_on_the_next() -> None:
    keys = StaticCredentials("AKIAEXAMPLE", "secret")
    signer = Signer(keys, "eu-west-3", HOST, requester_pays=False)
    signer.header_lines("/bucket/key", NOW)
    tomorrow = NOW + timedelta(days=1)
    fresh = Signer(keys, "eu-west-3", HOST, requester_pays=False)
    assert signer.header_lines("/bucket/key", tomorrow) == fresh.header_lines("/bucket/key", tomorrow)
