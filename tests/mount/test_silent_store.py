"""A store that takes requests and never answers: reads end by their deadline, and nothing else waits for them."""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
import socket
import threading
from pathlib import Path

import pytest

from gridfs.config import StoreSettings
from tests.mount.stage import MODES, Stage
from tests.support.data import ramp
from tests.support.s3 import S3Server

FILES, READERS = 160, 150
FILE_BYTES = 30_000
READ_TIMEOUT_S = 3.0
"""Of each request. The kernel lets 64 of its reads ahead wait and holds others back: all are done after three times."""


class SilentAtWill:
    """A TCP proxy on loopback that, once told so, still accepts connections and requests but forwards nothing."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.silent = threading.Event()
        self._address = address
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._start(self._accept)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._address)
            self._sockets += [client, server]
            self._start(self._forward, client, server)
            self._start(self._forward, server, client)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if not self.silent.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _start(self, work, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@pytest.mark.parametrize("mode", ["image", "veil"])
def test_metadata_answers_while_readers_wait_and_reads_time_out(
    staged: Stage, s3_moto: S3Server, tmp_path: Path, mode: str
) -> None:
    """Invariant 9: while 150 readers wait for the store, names and attributes come that nobody asked for before."""
    staged.expects_incidents = True
    host, port = s3_moto.endpoint_url.removeprefix("http://").split(":")
    proxy = SilentAtWill((host, int(port)))
    try:
        staged.store = StoreSettings(s3_moto.store_url(), endpoint_url=proxy.endpoint_url, region=s3_moto.region)
        source = tmp_path / "source"
        source.mkdir()
        for number in range(FILES):
            (source / f"{number}").write_bytes(ramp(FILE_BYTES, number))
        (source / "below").mkdir()
        (source / "below" / "file").touch()
        version = staged.create(source, "silent").version
        options = dataclasses.replace(MODES[mode], read_timeout_s=READ_TIMEOUT_S)
        mount = staged.mount(version, tmp_path / "mount", options)
        proxy.silent.set()
        outcomes: list[int | None] = []

        def read(number: int) -> None:
            descriptor = os.open(mount / f"{number}", os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
                os.pread(descriptor, mmap.PAGESIZE, 0)
                outcomes.append(None)
            except OSError as error:
                outcomes.append(error.errno)
            finally:
                os.close(descriptor)

        readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for reader in readers:
            reader.start()
        for number in range(READERS, FILES):
            assert (mount / f"{number}").stat().st_size == FILE_BYTES
        assert not (mount / "none").exists()
        assert len(os.listdir(mount)) == FILES + 1
        assert os.listdir(mount / "below") == ["file"]
        assert outcomes == []  # all of that came while every reader was still waiting
        for reader in readers:
            reader.join(10 * READ_TIMEOUT_S)
        assert len(outcomes) == READERS
        assert set(outcomes) == {errno.EIO if mode == "image" else errno.ETIMEDOUT}
        proxy.silent.clear()
        (status,) = staged.statuses()
        assert {incident["kind"] for incident in status.detail["incidents"]} <= {"ReadTimeout", "StoreUnavailable"}
    finally:
        proxy.close()


@pytest.mark.parametrize("missing", ["9999", "below"])
def test_names_that_are_absent_are_enoent(staged: Stage, tmp_path: Path, missing: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    mount = staged.mount(staged.create(source, "absent").version, tmp_path / "mount")
    with pytest.raises(FileNotFoundError):
        (mount / missing).stat()
