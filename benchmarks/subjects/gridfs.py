"""gridfs, by its command line and with directories of its own; nothing of this is an import."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Failed, mountpoints, run, wait_until
from benchmarks.servers import BUCKET, Server
from benchmarks.subjects.base import remove

GRID = Path(sys.executable).with_name("grid")
DAEMON = b"gridfs.mount.daemon"


@dataclass(frozen=True, slots=True)
class Directories:
    """Where this run's gridfs keeps everything; the runtime directory has a short name, as sockets need."""

    work: Path
    runtime: Path

    @property
    def cache(self) -> Path:
        return self.work / "gridfs/cache"

    def environment(self, server: Server | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GRIDFS_", "XDG_"))}
        places = {
            f"XDG_{kind.upper()}_HOME": str(self.work / "gridfs" / kind)
            for kind in ("data", "cache", "state", "config")
        }
        return kept | places | {"XDG_RUNTIME_DIR": str(self.runtime)} | (server.environment() if server else {})


def grid(directories: Directories, server: Server | None, *arguments: str | Path, timeout_s: float = 900) -> str:
    """Runs one command on the store in the bucket (or on none: whatever the arguments say)."""
    store = ["--store", f"s3://{BUCKET}/store", "--endpoint-url", server.endpoint] if server else []
    return run([GRID, *store, *arguments], directories.environment(server), timeout_s)


class Gridfs:
    """A mount by `grid mount`."""

    def __init__(self, directories: Directories, name: str = "gridfs", options: tuple[str, ...] = ()) -> None:
        self.name = name
        self.options = options
        self.directories = directories
        self.root = directories.work / "gridfs/mount"
        self.suffix = ""
        self.server: Server | None = None

    def with_options(self, name: str, *options: str) -> Gridfs:
        return Gridfs(self.directories, name, options)

    def of(self, suffix: str, name: str) -> Gridfs:
        """The same over datastores whose names end in *suffix*."""
        other = Gridfs(self.directories, name, self.options)
        other.suffix = suffix
        return other

    def start(
        self, prefix: str, dataset: str, server: Server, *, cache_limit_bytes: int | None
    ) -> tuple[Path, int | None]:
        self.root.mkdir(parents=True, exist_ok=True)
        self.directories.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        limit = [f"--max-cache-size={cache_limit_bytes}"] if cache_limit_bytes else []
        self.server = server
        grid(self.directories, server, "mount", f"{dataset}{self.suffix}", self.root, *limit, *self.options)
        return self.root, min(self._daemons(), default=None)

    def stop(self) -> None:
        """Also after a mount command that was cut short: whichever daemon of this run there is, is gone afterwards."""
        if self.server is None:
            return
        server, self.server = self.server, None
        if str(self.root) in mountpoints():
            try:
                grid(self.directories, server, "unmount", self.root, timeout_s=60)
            except Failed as error:
                print(f"grid unmount: {error}", file=sys.stderr)
                while str(self.root) in mountpoints():
                    run(["umount", "-l", self.root])
        try:
            wait_until(lambda: not self._daemons(), "gridfs: the daemon's end")
        except Failed:
            for pid in self._daemons():
                os.kill(pid, signal.SIGKILL)
            raise

    def forget(self) -> None:
        remove(self.directories.cache)

    def _daemons(self) -> set[int]:
        """Daemons of this run: their environment has its runtime directory (that of a zombie is empty)."""
        mark, found = f"XDG_RUNTIME_DIR={self.directories.runtime}".encode(), set()
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
                if DAEMON in command and mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.add(int(entry))
            except OSError:
                continue  # it ended
        return found
