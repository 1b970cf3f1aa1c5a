"""The servers that the other tests stand on."""

from __future__ import annotations

import pytest

from tests.support.data import ramp
from tests.support.s3 import S3Server


@pytest.mark.parametrize("server", ["s3_moto", pytest.param("s3_ceph", marks=pytest.mark.ceph)])
def test_a_server_gives_back_what_it_was_given(server: str, request: pytest.FixtureRequest) -> None:
    s3: S3Server = request.getfixturevalue(server)
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="ramp", Body=ramp(100_000))
    answer = client.get_object(Bucket=s3.bucket, Key="ramp", Range="bytes=1000-1999")
    assert answer["Body"].read() == ramp(1000, 1000)
