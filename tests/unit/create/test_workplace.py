"""Where creations keep their journals (create/workplace.py), and the requests that they are kept by."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from gridfs.config import Paths, StoreSettings
from gridfs.create.request import CreateRequest, SourceKind, absolute_source, source_kind
from gridfs.create.workplace import claimed, clear, discard, incomplete
from gridfs.errors import FormatError, InvalidInput
from gridfs.model import Mode

REQUEST = CreateRequest("set", "/data/set", skip_unreadable=True)
STORE = "file:///store"


def test_the_same_request_finds_the_place_of_the_interrupted_one(private_dirs: Paths) -> None:
    with claimed(private_dirs, REQUEST, STORE) as first:
        (first / "mark").touch()
    with claimed(private_dirs, REQUEST, STORE) as again:
        assert again == first
        assert (again / "mark").exists()
    for other in (replace(REQUEST, name="other"), replace(REQUEST, checksum=True), replace(REQUEST, source="/b")):
        with claimed(private_dirs, other, STORE) as elsewhere:
            assert elsewhere != first
    with claimed(private_dirs, REQUEST, "file:///other") as elsewhere:
        assert elsewhere != first


def test_a_second_one_at_the_same_time_has_a_place_of_its_own(private_dirs: Paths) -> None:
    with claimed(private_dirs, REQUEST, STORE) as first, claimed(private_dirs, REQUEST, STORE) as second:
        assert first != second
        with claimed(private_dirs, REQUEST, STORE) as third:
            assert third not in (first, second)
        assert [creation.is_running for creation in incomplete(private_dirs)].count(True) == 2
        discard(first)
    with claimed(private_dirs, REQUEST, STORE) as again:
        assert again in (second, third), "one that was interrupted comes before a new one"


def test_what_is_done_is_gone(private_dirs: Paths) -> None:
    with claimed(private_dirs, REQUEST, STORE) as directory:
        discard(directory)
    assert incomplete(private_dirs) == []
    with claimed(private_dirs, REQUEST, STORE) as directory:
        assert sorted(path.name for path in directory.iterdir()) == ["lock", "request.json"]


def test_a_kill_while_a_creation_is_forgotten_is_none_of_the_next_ones_business(
    private_dirs: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process of a container has the same pid, and two may remove the same."""
    with monkeypatch.context() as killed, claimed(private_dirs, REQUEST, STORE) as directory:
        killed.setattr(shutil, "rmtree", lambda *arguments, **options: None)
        discard(directory)
    (left,) = directory.parent.iterdir()
    with claimed(private_dirs, REQUEST, STORE) as directory:
        assert not left.exists()
        with monkeypatch.context() as raced:
            remove = shutil.rmtree

            def after_another(path: Path, ignore_errors: bool = False) -> None:
                remove(path)
                remove(path, ignore_errors)

            raced.setattr(shutil, "rmtree", after_another)
            discard(directory)
    with claimed(private_dirs, REQUEST, STORE) as directory:
        left.mkdir()
        (left / "lock").touch()
        discard(directory)
    assert incomplete(private_dirs) == []


def test_what_is_incomplete_knows_how_to_go_on(private_dirs: Paths) -> None:
    settings = StoreSettings("s3://bucket/prefix", endpoint_url="http://127.0.0.1:1", region="eu-1", sign=False)
    request = CreateRequest("set", "s3://b/p/", Mode.NO_COPY, source_settings=settings, include=("*.jpg",))
    with claimed(private_dirs, request, settings.url, settings):
        (creation,) = incomplete(private_dirs)
        assert creation.is_running
    (creation,) = incomplete(private_dirs)
    assert (creation.request, creation.store, creation.is_running) == (request, settings, False)
    assert creation.started_at.endswith("Z")


def test_clear_forgets_what_nobody_works_on(private_dirs: Paths) -> None:
    assert clear(private_dirs) == 0
    with claimed(private_dirs, replace(REQUEST, name="other"), STORE):
        pass
    with claimed(private_dirs, REQUEST, STORE):
        assert clear(private_dirs) == 1
        assert [creation.request.name for creation in incomplete(private_dirs)] == ["set"]


def test_damaged_ones_are_left_out(private_dirs: Paths) -> None:
    with claimed(private_dirs, REQUEST, STORE) as directory:
        pass
    (directory / "request.json").write_text("{}")
    assert incomplete(private_dirs) == []
    assert clear(private_dirs) == 1


def test_a_request_of_another_version_is_no_request() -> None:
    assert CreateRequest.from_json(REQUEST.to_json()) == REQUEST
    for text in ("", "{}", "[]", REQUEST.to_json().replace("checksum", "later option")):
        with pytest.raises(FormatError, match="clearcache"):
            CreateRequest.from_json(text)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("folder", SourceKind.LOCAL),
        ("/a:b//c", SourceKind.LOCAL),
        ("file:///a", SourceKind.LOCAL),
        ("s3://b/p", SourceKind.BUCKET),
        ("S3://b/p", SourceKind.BUCKET),
        ("HTTPS://host/x", SourceKind.HTTP),
        ("http://host/x", SourceKind.HTTP),
    ],
)
def test_kinds_of_sources(source: str, kind: SourceKind) -> None:
    assert source_kind(source) is kind
    assert source_kind(absolute_source(source)) is kind


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("http://host:port/x.tar", "'http://host:port/x.tar' is no address: its port is no number"),
        ("https://h:99999/x", "'https://h:99999/x' is no address: its port is no number up to 65535; write https://"),
        ("http://[::1/x", "'http://[::1/x' is no address: its host is malformed"),
        ("http://[host]/x", "its host is malformed"),
        ("https://ho\u2100st/x", "its host is malformed"),
        ("https://a..b/x", "'https://a..b/x' is no address: its host is malformed"),
        (f"https://{'n' * 64}.org/x", "its host is malformed"),
        ("https:///x", "'https:///x' is no address: it names no host"),
        ("HTTP://", "it names no host"),
        ("https://host/\udcff", "no UTF-8"),
        ("https://user:pass/word@host/x?sig=it", "'https://host/x' is no address: its port"),
        ("https://user:pass?word@host/x", "'https://...' is no address: its port"),
        ("https://host:port/x?sig=a@b", "'https://...' is no address: its port"),
    ],
)
def test_addresses_that_no_request_could_be_sent_to(source: str, says: str) -> None:
    for ask in (source_kind, absolute_source):
        with pytest.raises(InvalidInput, match=re.escape(says)) as raised:
            ask(source)
        assert "word" not in str(raised.value).partition("; write")[0]
        assert "sig" not in str(raised.value)


@pytest.mark.parametrize(
    "source",
    ["http://[::1]:80/x", "http://[fe80::1%25eth0]/x", "https://host./", "https://grün.example:0", "http://1/"],
)
def test_addresses_that_may_be_meant(source: str) -> None:
    assert source_kind(source) is SourceKind.HTTP


def test_unknown_kinds_of_sources() -> None:
    with pytest.raises(InvalidInput, match="ftp:// is unknown"):
        source_kind("ftp://host/x")
    with pytest.raises(InvalidInput, match=r"s3:/bucket.* s3://BUCKET"):
        source_kind("s3:/bucket/prefix")
    with pytest.raises(InvalidInput, match="is empty"):
        absolute_source("")
    assert absolute_source("S3://Bucket/P") == "s3://Bucket/P"


def test_creations_of_somebody_elses_home_are_none(private_dirs: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    with claimed(private_dirs, REQUEST, STORE):
        pass
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert (incomplete(private_dirs), clear(private_dirs)) == ([], 0)
