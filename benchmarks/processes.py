"""Programs that a run starts, what they take, and that they end; mounts, and that they are gone."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from gridfs.cache.buffers import new_area

ROOT = Path(__file__).parents[1]
ENDING_S = 10.0
SAMPLE_S = 0.05


class Failed(Exception):
    """A subject or a job could not do what was asked; the message is its own."""


def said(error: Exception) -> str:
    """What a failure is shown as: its own words, and its kind where it is none of ours."""
    if isinstance(error, Failed | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


Argument: TypeAlias = str | Path


def run(command: Sequence[Argument], environment: Mapping[str, str] | None = None, timeout_s: float = 600) -> str:
    """Runs *command* and returns its output. Raises Failed with the end of what it said."""
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{Path(command[0]).name}: no end after {timeout_s:.0f} s") from error
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise Failed(last_words(done.stderr or done.stdout) or f"{command[0]}: exit code {done.returncode}")
    return done.stdout


def last_words(text: str) -> str:
    """The last line of *text* that says something, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def run_job(name: str, job: Mapping[str, Any], python: str | Path = sys.executable) -> dict[str, Any]:
    """Runs jobs/*name*.py in a fresh process of *python* and returns what it found. Raises Failed."""
    timeout_s = job.get("limit_s", 60) * 4 + 60
    process = subprocess.Popen(
        [python, "-m", f"benchmarks.jobs.{name}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(json.dumps(job), timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no result after {timeout_s:.0f} s ({_stacks(process)})") from error
    finally:
        end_group(process)
    try:
        result: dict[str, Any] = json.loads(last_line(output))
    except ValueError as error:
        raise Failed(last_words(errors) or f"{name}.py: exit code {process.returncode}") from error
    if "failure" in result:
        raise Failed(result["failure"].splitlines()[0][:300])
    return result


def _stacks(process: subprocess.Popen[str]) -> str:
    """Where a job and its readers are stuck, as the faulthandler of jobs/job.py says when it is aborted."""
    os.killpg(process.pid, signal.SIGABRT)
    try:
        _, told = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        return "it does not end by SIGABRT"
    frames = dict.fromkeys(line.strip() for line in told.splitlines() if line.startswith("  File"))
    return "; ".join(frames)[:300]


def last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]


def ended(process: subprocess.Popen[Any]) -> None:
    """Sees to it that *process* is no more."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kills *process*, the leader of a session, and its children: readers left behind would keep mounts busy."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def mountpoints() -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return {line.split(" ")[4] for line in mounts}


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Waits for *condition*. Raises Failed, saying *what* did not happen."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not after {timeout_s:.0f} s")
        time.sleep(0.01)


TOUCHED_BYTES = 15 << 28
"""What the largest pass takes in new pages: a file of 2 GiB in the page cache, and a client's buffers, which may lie in
large pages."""
TOUCHED_SHARE = 0.25
"""At most, of what is available: the servers of a run keep their objects in memory."""


class PageCache:
    """The machine's page cache, dentries and inodes, and free memory, which a virtual machine may have to ask for."""

    def __init__(self) -> None:
        self.is_left_alone = False
        """In a quick run: its figures mean nothing, and others on the machine need what they have cached."""

    def drop(self) -> None:
        if self.is_left_alone:
            return
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as control:
            control.write("3")
        self.touch_memory()

    def touch_memory(self) -> None:
        """Takes memory and frees it, so that the pass that follows finds it backed by the host.

        A virtual machine with free page reporting hands free memory back within seconds, and getting it again takes
        2.4 s a GiB here (0.08 when it is backed): without this, the same pass of any subject differs by a factor of
        two, by how long ago its pages were in use. Pages of 2 MiB lie in other lists of free memory than those of
        4 KiB, so some of both are taken.
        """
        if not self.is_left_alone:
            size_bytes = min(TOUCHED_BYTES, int(memory_bytes("MemAvailable") * TOUCHED_SHARE))
            large = new_area(size_bytes // 3)
            large[:: mmap.PAGESIZE] = bytes(len(large) // mmap.PAGESIZE)
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
            mmap.mmap(-1, size_bytes - size_bytes // 3, flags=flags).close()
            large.close()


def memory_bytes(name: str) -> int:
    """A line of /proc/meminfo; 0 when the kernel has none of that name."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


page_cache = PageCache()
"""The machine has one."""


def busy_share(seconds: float) -> float:
    """How much of the processors is used while this program waits: by others."""

    def ticks() -> tuple[int, int]:
        with open("/proc/stat") as stat:
            fields = [int(field) for field in stat.readline().split()[1:9]]
        return fields[3] + fields[4], sum(fields)  # idle and waiting for disks; all

    idle, whole = ticks()
    time.sleep(seconds)
    idle_after, whole_after = ticks()
    return 1 - (idle_after - idle) / max(1, whole_after - whole)


class Memory:
    """Peak of a process's anonymous memory while it was watched."""

    def __init__(self) -> None:
        self.peak_mib = 0.0

    def look(self, pid: int) -> None:
        try:
            with open(f"/proc/{pid}/status") as status:
                for line in status:
                    if line.startswith("RssAnon:"):
                        self.peak_mib = max(self.peak_mib, int(line.split()[1]) / 1024)
        except OSError:
            pass  # it ended


@contextmanager
def watched(pid: int | None) -> Iterator[Memory]:
    """Looks at the memory of *pid* every 50 ms."""
    memory, done = Memory(), threading.Event()

    def watch() -> None:
        while pid is not None and not done.wait(SAMPLE_S):
            memory.look(pid)

    thread = threading.Thread(target=watch, name="memory watcher")
    thread.start()
    try:
        yield memory
    finally:
        if pid is not None:
            memory.look(pid)
        done.set()
        thread.join()
