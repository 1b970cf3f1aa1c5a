"""An ordinary user for tests that are run by root, in a mount namespace of its own and without a trace on the machine.

In that namespace (and nowhere else) a uid that nobody has is given a name in /etc/passwd, /dev/fuse is a node of mode
0666 as udev makes it, and the Python, its packages and this repository are readable at their own paths even where a
directory above them is not (a virtual environment below /root). The namespace lives as long as a process that waits at
the end of a pipe of ours, and its mounts go with it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "gridfs-test"

PREPARE = r"""
set -eu
stage=$1 name=$2 uid=$3 home=$4
shift 4
mount -t tmpfs -o mode=755 gridfs-test "$stage"
mknod -m 666 "$stage/fuse" c 10 229
mount --bind "$stage/fuse" /dev/fuse
for table in passwd group; do cat /etc/$table > "$stage/$table"; done
echo "$name:x:$uid:$uid::$home:/bin/sh" >> "$stage/passwd"
echo "$name:x:$uid:" >> "$stage/group"
for table in passwd group; do mount --bind "$stage/$table" /etc/$table; done
# Directories that only root may enter, and lie above what the user needs: an empty one instead, with just that in it.
count=0
for tree in "$@"; do
    count=$((count + 1))
    mkdir "$stage/$count"
    mount --bind "$tree" "$stage/$count"
done
count=0
for tree in "$@"; do
    count=$((count + 1))
    above=
    rest=${tree#/}
    while [ "${rest#*/}" != "$rest" ]; do
        above=$above/${rest%%/*}
        rest=${rest#*/}
        case $(stat -c %A "$above") in
            *x|*t) ;;
            *) mount -t tmpfs -o mode=755 gridfs-test "$above"; break ;;
        esac
    done
    mkdir -p "$tree"
    mount --bind "$stage/$count" "$tree"
done
echo ready
exec cat
"""


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    """Runs commands as a user who is not root, with a home and XDG directories of the test's own."""

    name: str
    uid: int
    gid: int
    home: Path
    """The user's alone; for its files. The rest of a test's temporary files are root's and hidden from the user."""
    python: Path
    prefix: tuple[str, ...]
    """What goes before a command to run it as this user, in the namespace."""
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, arguments: Sequence[str | os.PathLike[str]]) -> list[str]:
        return [*self.prefix, *(os.fspath(argument) for argument in arguments)]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, **self.variables, **(extra or {})}

    def run(
        self, arguments: Sequence[str | os.PathLike[str]], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The finished command, with its output as text (bytes that are no UTF-8 as surrogates)."""
        return subprocess.run(
            self.command(arguments),
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="surrogateescape",
            cwd=self.home,
            env=self.environment(environment),
        )


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """The user whom the tests run as, or where that is root, one made for the occasion."""
    directory = Path(tempfile.mkdtemp(prefix="gridfs-user-"))
    home = directory / "home"
    home.mkdir(0o700)
    directory.chmod(0o755)
    variables = {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "TMPDIR": str(home),
    }
    try:
        if os.geteuid() != 0:
            name = pwd.getpwuid(os.getuid()).pw_name
            yield OrdinaryUser(name, os.getuid(), os.getgid(), home, Path(sys.executable), (), variables)
            return
        uid = _unused_id()
        os.chown(home, uid, uid)
        variables |= {"USER": NAME, "LOGNAME": NAME}
        with _namespace(directory / "stage", uid, home) as pid:
            enter = ("nsenter", f"--mount=/proc/{pid}/ns/mnt", f"--root=/proc/{pid}/root", f"--wd={home}")
            become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all")
            yield OrdinaryUser(NAME, uid, uid, home, Path(sys.executable), enter + become, variables)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _namespace(stage: Path, uid: int, home: Path) -> Iterator[int]:
    stage.mkdir()
    holder = subprocess.Popen(
        [
            *("unshare", "--mount", "--propagation=private", "sh", "-c", PREPARE, "sh"),
            *(str(stage), NAME, str(uid), str(home), *_needed_trees()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"no namespace for an ordinary user: {holder.stderr.read()}")
        yield holder.pid
    finally:
        holder.communicate()


def _needed_trees() -> list[str]:
    """The Python that runs this, its packages and the repository, where a directory above them is closed to others."""
    candidates = (sys.prefix, sys.base_prefix, str(REPOSITORY))
    closed = {tree for tree in candidates if not all(_is_open(parent) for parent in Path(tree).parents)}
    return sorted(tree for tree in closed if not any(str(parent) in closed for parent in Path(tree).parents))


def _is_open(directory: Path) -> bool:
    return bool(directory.stat().st_mode & 0o001)


def _unused_id() -> int:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(61000, 65000) if uid not in taken)
