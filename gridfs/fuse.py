"""The pyfuse3 adapter: types and errnos, nothing else. What a mount answers is decided in vfs.py.

pyfuse3 catches only FUSEError; any other exception of a handler ends its main loop and with it the mount. So every
handler goes through `_answering`, where an error becomes an errno by the table of errors.py, and what is no expected
error becomes EIO, a traceback in the log and a count that tests demand to be zero.

Everything is immutable, so all that the kernel learns it may keep: attributes, names, absent names (a reply with
st_ino 0; a raised ENOENT is not kept) and pages. What pyfuse3 itself answers with ENOSYS, the kernel asks once
(flush, access, poll, fsync).
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from gridfs import image, zero_open  # before pyfuse3, see there
from gridfs.errors import GridfsError, errno_of
from gridfs.model import ROOT_INODE, Buffer, Entry
from gridfs.observe import Counters, Incidents
from gridfs.vfs import PREFERRED_IO_BYTES, FileSystem, Listed

import pyfuse3  # isort: skip

log = logging.getLogger(__name__)

FOREVER_S = 365 * 86400
"""Timeouts of names and attributes. The kernel counts in jiffies, and a year fits also where these are 32 bits."""

MAX_TASKS = 1024
"""Requests served at once. With pyfuse3's 99, 150 page faults that waited for the store let `stat` stand still; an idle
task costs 8 KiB."""

P = ParamSpec("P")
R = TypeVar("R")


class Doubts(Protocol):
    """Whether all that is answered comes of metadata that has changed since the mount (mount.manifest_check)."""

    is_damaged: bool

    async def cause_of(self, error: Exception) -> Exception:
        """*error*, or what is behind it."""
        ...

    def damage(self) -> GridfsError:
        """What is said when *is_damaged*."""
        ...


def _answering(
    handler: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
    """The edge: what a handler raises becomes an errno, here and nowhere else."""

    @functools.wraps(handler)
    async def answer(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if self._doubts is not None and self._doubts.is_damaged:
                raise self._doubts.damage()
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as raised:
            error = raised if self._doubts is None else await self._doubts.cause_of(raised)
            if not isinstance(error, GridfsError):
                self.counters.add("defects")
            self.incidents.note(error, handler.__name__)
            raise pyfuse3.FUSEError(errno_of(error)) from raised

    return answer


def _read_only(name: str) -> Any:
    """A handler of something that writes. The kernel refuses most by itself, the mount being read-only."""

    async def refuse(self: Operations, *arguments: object) -> Any:
        raise pyfuse3.FUSEError(errno.EROFS)

    refuse.__name__ = name
    return refuse


class Operations(pyfuse3.Operations):
    """Handlers of one mount. A *hook* given means that ENOSYS to OPEN is wanted; itself says whether it is possible."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        files: FileSystem,
        *,
        incidents: Incidents,
        counters: Counters,
        hook: zero_open.Hook | None = None,
        xattr: bool = False,
        image: image.Image | None = None,
        doubts: Doubts | None = None,
    ) -> None:
        super().__init__()
        self.counters = counters
        self.incidents = incidents
        self._files = files
        self._hook = hook
        self._xattr = xattr
        self._image = image
        self._doubts = doubts
        self._mode_of = files.view.mode_of
        self._listed = self._blank()

    def _blank(self) -> pyfuse3.EntryAttributes:
        """Attributes with all that is the same for every entry."""
        attributes = pyfuse3.EntryAttributes()
        attributes.entry_timeout = attributes.attr_timeout = FOREVER_S
        attributes.st_uid, attributes.st_gid = self._files.view.uid, self._files.view.gid
        attributes.st_blksize = PREFERRED_IO_BYTES
        return attributes

    def _fill(self, attributes: pyfuse3.EntryAttributes, entry: Entry) -> pyfuse3.EntryAttributes:
        attributes.st_ino = entry.inode
        attributes.st_mode = self._mode_of(entry)
        attributes.st_size = size = entry.size
        attributes.st_blocks = (size + 511) >> 9
        attributes.st_mtime_ns = attributes.st_ctime_ns = attributes.st_atime_ns = entry.mtime_ns
        return attributes

    def _image_attributes(self, shown: image.Image) -> pyfuse3.EntryAttributes:
        attributes = self._blank()
        attributes.entry_timeout = 0  # found once, by whoever mounts it
        attributes.st_ino = image.INODE
        attributes.st_mode = image.FILE_MODE
        attributes.st_size = shown.size_bytes
        return attributes

    @_answering
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        shown = self._image
        if shown is not None and shown.offered and name == shown.name and parent_inode == ROOT_INODE:
            return self._image_attributes(shown)
        if len(name) > self._files.volume.name_max_bytes:  # the kernel itself refuses only what is above 1024 bytes
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        entry = self._files.lookup(parent_inode, name)
        attributes = self._blank()
        return attributes if entry is None else self._fill(attributes, entry)  # st_ino 0: absent, and that is kept

    @_answering
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if inode == image.INODE and self._image is not None:
            return self._image_attributes(self._image)
        return self._fill(self._blank(), self._files.entry(inode))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Nothing: inodes are the manifest's."""

    @_answering
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self._files.readlink(inode)

    @_answering
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        if self._hook is not None and self._hook.may_answer_enosys(directory=True):
            raise pyfuse3.FUSEError(errno.ENOSYS)
        return inode

    @_answering
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        self._demand_inode(fh)
        # One record for all lines, since pyfuse3 copies it into its reply at once: making one costs 0.6 us of 3.
        attributes, fill, reply = self._listed, self._fill, pyfuse3.readdir_reply
        line: Listed
        for line in self._files.listing(fh, start_id):
            if not reply(token, line.name, fill(attributes, line.entry), line.cookie):
                return

    @_answering
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        if self._hook is not None and self._hook.may_answer_enosys(directory=False):
            raise pyfuse3.FUSEError(errno.ENOSYS)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    @_answering
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]  # any buffer does
        if fh == image.INODE and self._image is not None:
            data = await self._image.read(off, size)
            lacking_bytes = size - len(data)  # behind the end of a file, where EROFS must be given zeros (Image.read)
            if lacking_bytes and (self._hook is None or not self._hook.pad(lacking_bytes)):
                return b"".join((data, bytes(lacking_bytes)))
            return data
        self._demand_inode(fh)
        return await self._files.read(fh, off, size)

    async def release(self, fh: int) -> None:
        """Nothing: no state hangs on open files."""

    async def releasedir(self, fh: int) -> None:
        """Nothing, as release."""

    @_answering
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        volume, answer = self._files.volume, pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = volume.block_size_bytes
        answer.f_blocks, answer.f_bfree, answer.f_bavail = volume.block_count, 0, 0
        answer.f_files, answer.f_ffree, answer.f_favail = volume.entry_count, 0, 0
        answer.f_namemax = volume.name_max_bytes
        return answer

    @_answering
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if not self._xattr:  # once and for ever: answered, two requests a file made `ls -l` twenty times slower
            raise pyfuse3.FUSEError(errno.ENOSYS)
        try:
            return self._files.attributes_of_origin(inode)[name]
        except KeyError:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR) from None

    @_answering
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        if not self._xattr:
            raise pyfuse3.FUSEError(errno.ENOSYS)
        return list(self._files.attributes_of_origin(inode))

    def _demand_inode(self, fh: int) -> None:
        """A handle of 0 is a READ that went past the hook after ENOSYS was answered: EIO and not wrong bytes."""
        if fh < ROOT_INODE:
            raise RuntimeError("a request without an inode: the zero-message open was answered without its hook")

    setattr = _read_only("setattr")
    mknod = _read_only("mknod")
    mkdir = _read_only("mkdir")
    unlink = _read_only("unlink")
    rmdir = _read_only("rmdir")
    symlink = _read_only("symlink")
    rename = _read_only("rename")
    link = _read_only("link")
    write = _read_only("write")
    create = _read_only("create")
    setxattr = _read_only("setxattr")
    removexattr = _read_only("removexattr")


def store_pages(inode: int, data: Buffer) -> bool:
    """Puts a whole file's bytes into the kernel's page cache; False when the kernel does not know the inode.

    Not in trio's thread: it waits for pages that are being read, and those reads are answered there.
    """
    try:
        pyfuse3.notify_store(pyfuse3.InodeT(inode), 0, data)  # type: ignore[arg-type]  # any buffer will do
    except OSError:
        return False
    return True
