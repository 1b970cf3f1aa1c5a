"""Creations that a signal or a lost terminal meets: they end resumably and say so, or don't notice."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridfs.config import Paths
from tests.support.archives import member, tar_of
from tests.support.data import ramp
from tests.support.web_server import Resource, Server, web_server

WAIT_S = 60.0
CONTENT = tar_of(*((member(f"{number:03}"), ramp(100_000, number)) for number in range(100)))


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server() as server:
        yield server


@pytest.fixture
def stalling(server: Server, private_dirs: Paths) -> str:
    """The address of an archive that stalls in its middle until the server is told to go on."""
    return server.serve("/set.tar", Resource(CONTENT, stall_after=[len(CONTENT) // 2]))


def grid(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gridfs", *arguments]


def output(*arguments: str) -> str:
    done = subprocess.run(grid(*arguments), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(address: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(grid("datastore", "create", address), text=True, **options)  # type: ignore[call-overload]


LATE = """
import os, signal, sys
from gridfs.catalog import Catalog
from gridfs.cli import app
claim = Catalog._claim
async def interrupted(self, version):
    os.kill(os.getpid(), signal.SIGINT)
    return await claim(self, version)
Catalog._claim = interrupted
sys.exit(app.run(sys.argv[1:]))
"""


def test_a_signal_while_it_commits_is_too_late(private_dirs: Paths, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "file").write_bytes(b"1")
    command = [sys.executable, "-c", LATE, "datastore", "create", str(tmp_path / "pets")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "available" in ended.stdout
    assert json.loads(output("datastore", "list", "--show-incomplete", "-o", "json")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_creation_so_that_it_can_be_continued(
    server: Server, stalling: str, number: signal.Signals
) -> None:
    process = start(stalling, stderr=subprocess.PIPE)
    assert server.stalled.wait(WAIT_S)
    process.send_signal(number)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    last = errors.splitlines()[-1]
    assert f"ended by {number.name}" in last
    assert "the same command again continues" in last
    assert "`grid datastore resume`" in last
    assert json.loads(output("datastore", "-o", "json")) == []
    listed = json.loads(output("datastore", "--show-incomplete", "-o", "json"))
    assert [(entry["name"], entry["source"], entry["running"]) for entry in listed] == [("set", stalling, False)]

    server.released.set()
    output("datastore", "resume")
    versions = json.loads(output("datastore", "-o", "json"))
    assert [(version["name"], version["version"]) for version in versions] == [("set", 1)]
    assert json.loads(output("datastore", "--show-incomplete", "-o", "json")) == []


def test_a_running_creation_is_no_interrupted_one(server: Server, stalling: str) -> None:
    process = start(stalling, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert server.stalled.wait(WAIT_S)
    listed = json.loads(output("datastore", "--show-incomplete", "-o", "json"))
    assert [entry["running"] for entry in listed] == [True]
    refused = subprocess.run(grid("datastore", "resume"), check=False, capture_output=True, text=True)
    assert refused.returncode == 3
    assert "there is no interrupted creation" in refused.stderr
    server.released.set()
    assert process.wait(WAIT_S) == 0


def test_clearcache_forgets(server: Server, stalling: str) -> None:
    process = start(stalling, stderr=subprocess.DEVNULL)
    assert server.stalled.wait(WAIT_S)
    process.kill()
    process.wait(WAIT_S)
    assert json.loads(output("datastore", "clearcache", "-o", "json")) == {"forgotten": 1}
    assert json.loads(output("datastore", "--show-incomplete", "-o", "json")) == []


class TestSecrets:
    """Of `https://USER:PASSWORD@host/x?X-Amz-Signature=...`: they are sent to the server, and shown nowhere."""

    @pytest.fixture
    def address(self, stalling: str) -> str:
        return stalling.replace("//", "//user:pa55word@") + "?X-Amz-Signature=5ecret"

    @pytest.fixture
    def told(self, private_dirs: Paths) -> Callable[..., str]:
        """Runs `grid` and returns all that it tells anyone, which has no secret."""

        def run(*arguments: str, code: int = 0, program: str | None = None) -> str:
            command = grid(*arguments) if program is None else [sys.executable, "-c", program, *arguments]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            log = private_dirs.state / "log" / "grid.log"
            text = done.stdout + done.stderr + (log.read_text() if log.exists() else "")
            assert done.returncode == code, text
            assert "pa55word" not in text
            assert "5ecret" not in text
            return text

        return run

    def test_of_a_creation_that_is_continued(
        self, server: Server, address: str, stalling: str, told: Callable[..., str], private_dirs: Paths
    ) -> None:
        process = start(address, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert server.stalled.wait(WAIT_S)
        process.terminate()
        text, _ = process.communicate(timeout=WAIT_S)
        assert "pa55word" not in text
        assert "5ecret" not in text
        (request,) = private_dirs.state.glob("creations/*/request.json")
        assert request.stat().st_mode & 0o777 == 0o600
        assert "pa55word" in request.read_text(), "the same creation is to be continued"
        assert stalling in told("datastore", "--show-incomplete")
        assert f'"source": "{stalling}"' in told("datastore", "--show-incomplete", "-o", "json")
        server.released.set()
        assert f"Continuing set from {stalling}" in told("datastore", "resume")
        told("datastore", "versions", "set")
        told("datastore", "create", address, "-o", "json")
        assert "Authorization" in server.resources["/set.tar"].requests[-1]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--no-copy",),
            ("--requester-pays",),
            ("--include", "*"),
            ("--dry-run",),
            ("--source", "https://user:pa55word@host/x?X-Amz-Signature=5ecret"),
            ("https://user:pa55word@host/x?X-Amz-Signature=5ecret",),
        ],
    )
    def test_of_one_that_is_refused(self, address: str, told: Callable[..., str], arguments: tuple[str, ...]) -> None:
        told("datastore", "create", address, *arguments, code=2)
        told("--debug", "datastore", "create", address, *arguments, code=2)

    def test_of_one_that_fails(self, server: Server, address: str, told: Callable[..., str]) -> None:
        told("datastore", "create", address.replace("/set", "/other"), code=3)
        told("datastore", "create", address.replace("http:", "ftp:"), code=2)
        told("datastore", "create", address.replace("http://", "http:/"), code=2)
        told("datastore", "show", address, code=2)
        assert not server.stalled.is_set()

    def test_of_a_defect(self, server: Server, address: str, told: Callable[..., str]) -> None:
        program = (
            "import sys\n"
            "from gridfs.create import opening\n"
            "def broken(url, directory):\n"
            "    raise KeyError(url)\n"
            "import gridfs.create.archive\n"
            "gridfs.create.archive.http_archive = broken\n"
            "from gridfs.cli.app import run\n"
            "sys.exit(run(sys.argv[1:]))\n"
        )
        text = told("datastore", "create", address, program=program, code=70)
        assert f"defect in: grid datastore create {server.address}/set.tar\nTraceback" in text
        told("datastore", "create", address, "--debug", program=program, code=70)


def on_terminal(command: list[str], *, setup: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Starts *command* as the foreground of a terminal of its own; its process id, and the terminal's other side."""
    child, terminal = pty.fork()
    if child == 0:
        setup()
        os.execvp(command[0], command)
    return child, terminal


def end_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lost_terminal_ends_a_creation_resumably(server: Server, stalling: str) -> None:
    child, terminal = on_terminal(grid("datastore", "create", stalling))
    assert server.stalled.wait(WAIT_S)
    os.close(terminal)  # the kernel sends SIGHUP, and every write to the terminal fails from now on
    assert end_of(child) != 0
    server.released.set()
    output("datastore", "resume")
    assert len(json.loads(output("datastore", "-o", "json"))) == 1


def test_under_nohup_a_lost_terminal_changes_nothing(server: Server, stalling: str, tmp_path: Path) -> None:
    child, terminal = on_terminal(["nohup", *grid("datastore", "create", stalling)], setup=lambda: os.chdir(tmp_path))
    assert server.stalled.wait(WAIT_S)
    os.close(terminal)
    server.released.set()
    assert end_of(child) == 0
    assert len(json.loads(output("datastore", "-o", "json"))) == 1


def test_in_tmux_a_lost_terminal_changes_nothing(
    server: Server, stalling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TMUX", raising=False)
    done = tmp_path / "done"
    os.mkfifo(done)
    script = f"{' '.join(grid('datastore', 'create', stalling))}; echo $? > {done}"
    child, terminal = on_terminal(["tmux", "-L", "test", "new-session", script])
    assert server.stalled.wait(WAIT_S)
    os.close(terminal)
    end_of(child)  # of the client; the session lives on
    server.released.set()
    assert done.read_text() == "0\n"
    assert len(json.loads(output("datastore", "-o", "json"))) == 1
