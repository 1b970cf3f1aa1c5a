"""What is shown of addresses (addresses.py)."""

from __future__ import annotations

import logging

import pytest

from gridfs.addresses import shown_url, without_secrets
from gridfs.observe import OneLineFormatter


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:word@host:8443/a/b.zip?token=secret#part", "https://host:8443/a/b.zip"),
        ("https://user:w@rd@host/a/@scope/b.tgz?by=a@b", "https://host/a/@scope/b.tgz"),
        ("https://host?token=it's a /secret", "https://host"),
        ("HTTP://user:word@host:port/x", "HTTP://host:port/x"),
        ("https:/user:word@host/x", "https:/host/x"),
        ("ftp://user:word@host/x", "ftp://host/x"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_no_secret_of_a_url_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("source", ["", "/a?b#c", "a@b:c", "s3://bucket/a?b@c#d", "S3://b/?", "file:///a#b", "a://"])
def test_what_is_no_url_is_shown_as_it_is(source: str) -> None:
    assert shown_url(source) == source


def test_messages_that_name_urls() -> None:
    text = "'http://u:p@host/x?a=b' is bad; HTTPS://u:p@host/y?a=b, or (http://host:80/z); s3://b/k?c"
    assert without_secrets(text) == "'http://host/x' is bad; HTTPS://host/y, or (http://host:80/z); s3://b/k?c"


def test_the_log_has_no_secret() -> None:
    try:
        raise ValueError("https://user:word@host/x?sig=secret")
    except ValueError as error:
        record = logging.LogRecord("gridfs", 40, "", 0, "of %s", ("https://u:word@h/x?secret",), (None, error, None))
    shown = OneLineFormatter().format(record)
    assert "word" not in shown
    assert "secret" not in shown
