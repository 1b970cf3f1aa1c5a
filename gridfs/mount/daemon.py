"""The daemon of one mount: puts everything together, serves until its mount is gone, and leaves nothing behind.

Run as `python -m gridfs.mount.daemon` with a MountSpec as JSON on stdin (launch.py). In order, each step undone by the
AsyncExitStack in the opposite one:

    1. the lock that says that this daemon lives            5. the control socket
    2. store, manifest, caches, reader (assembly.py)        6. the kernel's limits
    3. the FUSE mount: hidden, or at the target             7. the veil, or a bind mount, at the target
    4. requests are served                                  8. record.json, "ready" to whoever waits, READY=1 to systemd

It ends when the kernel says that nobody holds the mount any more (ENODEV). SIGTERM and SIGINT take the mount out of the
tree, give those who still hold it STOP_GRACE_S, and end; a second signal ends at once. A crash runs none of this: the
mount stays and answers ENOTCONN, so that no one takes the tree for empty (invariant 7), until the next `grid mount`.

Nothing here may ask the own mount for anything from trio's thread, which would have to answer: paths are compared as
text, device numbers come from mountinfo, and mount(2) of the veil is called in a worker thread.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from gridfs import zero_open
from gridfs.errors import EXIT_BUG, GridfsError, Unsupported, exit_code_of
from gridfs.fuse import MAX_TASKS, Operations  # loads the hook before pyfuse3
from gridfs.image import Image
from gridfs.mount import control, registry, veil
from gridfs.mount.assembly import OpenVersion, open_version
from gridfs.mount.attendant import answer_of, keys_asked_for, resolved
from gridfs.mount.handed_in import descriptor_of
from gridfs.mount.kernel import READ_AHEAD_IN_PLACE_KIB, READ_AHEAD_KIB
from gridfs.mount.last_resort import end_in_time
from gridfs.mount.launch import failure_line, ready_line
from gridfs.mount.leftovers import leftovers_of
from gridfs.mount.manifest_check import ManifestCheck
from gridfs.mount.mounts import current, top_at, uses_of
from gridfs.mount.native_errors import native_errors
from gridfs.mount.requirements import mount_refused
from gridfs.mount.reveal import reveal
from gridfs.mount.shortcuts import Shortcuts
from gridfs.mount.spec import MountRecord, MountSpec, from_json, plain
from gridfs.mount.syscalls import may_mount
from gridfs.mount.systemd import notify
from gridfs.mount.users import Use, may_release, uses
from gridfs.observe import Counters, Incidents, set_up_logging

import pyfuse3  # isort: skip

log = logging.getLogger("gridfs.mount.daemon")

STOP_GRACE_S = 5.0
CRASH_LIMIT_S = 5.0
"""After a defect, until the process is killed: its readers wait so long."""

GARBAGE_AFTER = 20_000
"""Objects made and not yet freed before Python looks for cycles among them. With its 700 that was a sixteenth of the
processor while small objects were fetched: a fetch makes no cycle, and what is fetched lives for seconds."""

LOOK_EVERY_S = 5.0
"""How often the mount table is read to see whether the target is still mounted (30 us)."""


class Daemon:
    """One mount, from its FUSE session to its end."""

    def __init__(self, spec: MountSpec) -> None:
        self.spec = spec
        self.incidents = Incidents(logging.getLogger("gridfs.mount"))
        self.counters = Counters()
        self.record: MountRecord | None = None
        self._hidden = spec.target is None or (may_mount() and descriptor_of(spec.target) is None)
        self._fuse_path = spec.directory / registry.HIDDEN if self._hidden else spec.target or spec.directory
        self._linger_s = spec.linger_s
        self._had_target = spec.target is not None
        self._last_used_s = 0.0
        self._released = False
        self._ended = False
        """Whether the session has ended, and not by a defect."""
        self.crashed = False
        self.reported = False
        """Whether the one who waits knows that it is ready."""
        self._version: OpenVersion | None = None
        self._shortcuts: Shortcuts | None = None
        self._hook = zero_open.HOOK if spec.options.zero_open else None

    async def run(self, report: int | None, locks: Sequence[int]) -> None:
        """Serves until the mount is gone. Once ready, closes *locks*, and *report* after writing a line to it."""
        async with AsyncExitStack() as stack:
            opening = open_version(self.spec, self.incidents, self.counters)
            self._version = version = await stack.enter_async_context(opening)
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            await nursery.start(version.reader.run, name="reader")
            self._shortcuts = shortcuts = Shortcuts(
                self.spec, version, is_hidden=self._hidden, has_hook=self._hook is not None
            )
            operations = Operations(
                version.files,
                incidents=self.incidents,
                counters=self.counters,
                hook=self._hook,
                xattr=self.spec.options.xattr,
                image=shortcuts.image,
                doubts=ManifestCheck(version.manifest, self.spec.version),
            )
            await stack.enter_async_context(self._mounted(operations))
            nursery.start_soon(end_in_time, CRASH_LIMIT_S, lambda: self._ended, name="last resort")
            async with trio.open_nursery() as serving:
                stack.callback(shortcuts.end)
                pyfuse3.trio = shortcuts.start(serving)  # type: ignore[attr-defined]  # as its own asyncio support does
                serving.start_soon(self._end_by_signal, shortcuts, name="signals")
                serving.start_soon(self._become_ready, shortcuts, serving, report, locks, name="start")
                await pyfuse3.main(max_tasks=MAX_TASKS)
                self._ended = True
                serving.cancel_scope.cancel()

    @asynccontextmanager
    async def _mounted(self, operations: Operations) -> AsyncIterator[None]:
        options = {"fsname=" + self.spec.source, "subtype=gridfs", "ro", "nosuid", "nodev", "default_permissions"}
        if self.spec.options.allow_other:
            options.add("allow_other")
        options.update(self.spec.options.extra)
        with native_errors() as said:
            try:
                pyfuse3.init(operations, str(self._fuse_path), options)
            except RuntimeError as error:
                raise mount_refused(self._fuse_path, said() or str(error)) from error
        try:
            yield
        except BaseException:
            if self.record is not None:
                self.crashed = True  # an unmount now would make the tree look empty to those who are reading it
                raise
            self._unmount()
            raise
        else:
            self._unmount()

    def _unmount(self) -> None:
        pyfuse3.close(unmount=False)  # first: nobody serves any more, and a request would be waited for in vain
        if not self._released:
            self._detach()
        if self.spec.target_made:
            leftovers_of(self.spec.directory.parent.parent).sweep()

    async def _become_ready(
        self, shortcuts: Shortcuts, serving: trio.Nursery, report: int | None, locks: Sequence[int]
    ) -> None:
        await serving.start(control.serve, self.spec.directory, self._answer, name="control")
        self.record = record = await trio.to_thread.run_sync(self._reveal, shortcuts.image)
        try:
            registry.write_record(self.spec.directory, record)
        except OSError as error:
            await trio.to_thread.run_sync(self._detach)
            self.record = None  # nobody has been told of it: it is a start that failed, and not a crash
            raise Unsupported(
                f"{self.spec.directory} can't be written: {error.strerror}",
                remedy="make room there, or choose another place by XDG_RUNTIME_DIR",
            ) from error
        for lock in locks:
            os.close(lock)
        shortcuts.shown(record, serving)
        self._touch()
        serving.start_soon(self._watch_users, name="users")
        log.info("%s is mounted at %s (pid %d)", record.label, record.target or record.fuse_path, record.pid)
        notify(f"READY=1\nSTATUS={record.label} at {record.target or record.fuse_path}")
        if report is not None:
            with contextlib.suppress(BrokenPipeError):  # whoever waited was killed: it is mounted all the same
                os.write(report, ready_line(record))
            os.close(report)
            self.reported = True
        gc.freeze()  # what the start has made lives as long as the daemon
        gc.set_threshold(GARBAGE_AFTER)

    def _reveal(self, image: Image | None) -> MountRecord:
        os.statvfs(self._fuse_path)  # after an answer the hook knows whether requests pass through it
        works = self._hook is not None and self._hook.may_answer_enosys(directory=False)
        in_place = self._version is not None and self._version.reader.statistics().disk.is_store
        read_ahead_kib = READ_AHEAD_IN_PLACE_KIB if in_place else READ_AHEAD_KIB
        return reveal(self.spec, self._fuse_path, image, zero_open=works, read_ahead_kib=read_ahead_kib)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            if request["do"] == "resolve" and self._version is not None:
                return await resolved(request, self.spec.store, self._version.questions.ask)
            if request["do"] == "attach":
                return await self._attach(request)
            return await self._answer_to(request["do"])
        except Exception as error:  # a question is no reason for a mount to end
            self.counters.add("defects")
            self.incidents.note(error, f"control {request['do']}")
            return {"released": self._released}

    async def _answer_to(self, word: str) -> dict[str, Any]:
        if word == "keep":
            self._linger_s, self._had_target = None, True
        elif word == "use":
            self._touch()
        elif word == "release" and not await trio.to_thread.run_sync(self._is_shown):
            await self._release()
        return self._status()

    async def _attach(self, request: dict[str, Any]) -> dict[str, str]:
        """Which daemons may serve the run that asks; this one itself when it does, which counts the linger anew."""
        record, version = self.record, self._version
        if record is None or version is None:
            return {}
        keys = await keys_asked_for(request, self.spec.store, version.questions.ask)
        if self._released:
            return {}
        if record.mount_id.rpartition(".")[0] in keys:
            self._touch()
            return answer_of(keys, record)
        return answer_of(keys, None)

    def _status(self) -> dict[str, Any]:
        version = self._version
        return {
            "record": plain(self.record),
            "linger_s": self._linger_s,
            "released": self._released,
            "counters": self.counters.snapshot(),
            "incidents": [incident.as_json() for incident in self.incidents.snapshot()],
            "reader": plain(version.reader.statistics()) if version is not None else {},
            **(self._shortcuts.counts() if self._shortcuts is not None else {}),
            "store": plain(version.store_statistics) if version is not None else {},
        }

    async def _watch_users(self) -> None:
        """Ends the mount when its users are gone (users.py)."""
        record = self.record
        assert record is not None
        every_s = LOOK_EVERY_S if self._linger_s is None else min(LOOK_EVERY_S, max(self._linger_s / 4, 0.1))
        while not self._released:
            await trio.sleep(every_s)
            try:
                here, elsewhere = await trio.to_thread.run_sync(uses, record)
            except OSError as error:  # EMFILE, ENFILE
                said = f"who uses {record.label} can't be seen, so it counts as used: {error.strerror}"
                self.incidents.note(GridfsError(said, remedy="let it, or the machine, open more files"))
                self._touch()
                continue
            if not self._hidden:
                continue  # unmounting it is all that it takes: the kernel tells us
            if here or elsewhere:
                self._touch()
            idle_s = trio.current_time() - self._last_used_s
            if may_release(Use(self._linger_s, self._had_target, here, elsewhere, idle_s)):
                log.info("nobody uses %s any more", record.label)
                await self._release()
        while await trio.to_thread.run_sync(self._is_in_tree):  # fusermount3 fails now and then while others mount
            await trio.sleep(every_s)
            await trio.to_thread.run_sync(self._detach)

    def _touch(self) -> None:
        self._last_used_s = trio.current_time()

    async def _release(self) -> None:
        """Takes everything out of the tree. The kernel ends the session when nobody holds the file system."""
        if not self._released:
            self._released = True
            await trio.to_thread.run_sync(self._detach)

    def _is_shown(self) -> bool:
        """Whether a path shows it: since whoever asks for the release saw none, somebody may have mounted it anew."""
        return self.record is not None and bool(self.record.uses_in(current()))

    def _is_in_tree(self) -> bool:
        """Whether the file system is still where it was mounted first: so long the kernel keeps the session."""
        own = top_at(self._fuse_path, current())
        return own is not None and own.source == self.spec.source

    def _detach(self) -> None:
        mounts = current()
        own = top_at(self._fuse_path, mounts)
        tree_path = self.spec.directory / registry.TREE
        devices = self.record.devices if self.record is not None else frozenset({own.device} if own is not None else ())
        for mounted in uses_of(frozenset({self._fuse_path, tree_path}), devices, self.spec.source, mounts):
            with contextlib.suppress(OSError):
                veil.detach(mounted.mountpoint)
        if top_at(tree_path, mounts) is not None:
            with contextlib.suppress(OSError):
                veil.detach(tree_path)
        if own is not None and own.device in devices and own.source == self.spec.source:
            try:
                veil.detach(self._fuse_path)
            except OSError as error:
                log.info("%s can't be unmounted just now: %s", self._fuse_path, error.strerror)
        registry.forget_record(self.spec.directory)

    async def _end_by_signal(self, shortcuts: Shortcuts) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("ended by %s", signal.Signals(number).name)
                notify("STOPPING=1")
                break
            await self._release()
            with trio.move_on_after(STOP_GRACE_S):
                async for _ in signals:
                    break
        await shortcuts.stop_pushing()
        pyfuse3.terminate()


def _cause(error: BaseException) -> BaseException:
    """The one error in nested groups that says most: an expected one before a defect that followed from it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, GridfsError)), causes[0])


def main() -> int:
    """Reads the spec from stdin. With `--report FD LOCK...` the first is the pipe of whoever waits; with
    `--locks LOCK...` nobody does, and errors go to stderr. The locks are those of the start (launch.py)."""
    word, locks = sys.argv[1], [int(descriptor) for descriptor in sys.argv[2:]]
    report = locks.pop(0) if word == "--report" else None
    spec = from_json(MountSpec, sys.stdin.buffer.read())
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # the lower limit is for programs that use select(2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    set_up_logging(log_file=spec.log_file, stream=sys.stderr if report is None else None)
    alive = registry.hold_alive(spec.directory)
    daemon = Daemon(spec)
    try:
        trio.run(daemon.run, report, locks)
    except BaseException as group:
        error = _cause(group)
        if not isinstance(error, GridfsError):
            log.error("defect: the daemon of %s ended", spec.source, exc_info=group)
        if report is not None and not daemon.reported:
            with contextlib.suppress(BrokenPipeError):
                os.write(report, failure_line(error))
        if report is None:
            sys.stderr.write(f"grid: {error}\n")
        return exit_code_of(error) if isinstance(error, GridfsError) else EXIT_BUG
    finally:
        daemon.incidents.log_repeats()
        if not daemon.crashed:
            registry.remove_directory(spec.directory)
        os.close(alive)
    log.info("%s is unmounted", spec.source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
