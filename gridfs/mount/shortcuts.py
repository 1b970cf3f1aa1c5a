"""What spares READs of one mount the way through Python, wired together. Each falls away where it can't be had.

    image        the kernel's own names, attributes and open() for root's mounts of small files (image.py)
    fast reads   a thread in C answers what lies in memory (fast_reads.py)
    push         the kernel gets files that were fetched ahead before anyone asks for them (vfs_push.py)
    read-ahead   the kernel gets metadata of the image before `find` does

`start` is called when the FUSE device is open, `shown` when the tree can be seen, `end` before the device is closed.
"""

from __future__ import annotations

import contextlib
from typing import Any

import trio

from gridfs import fast_reads
from gridfs.extents import Extents
from gridfs.fast_reads import FastReads
from gridfs.fuse import store_pages
from gridfs.image import Image
from gridfs.image_addresses import pays
from gridfs.model import Mode
from gridfs.mount import kernel
from gridfs.mount.assembly import OpenVersion
from gridfs.mount.spec import MountRecord, MountSpec
from gridfs.open_ahead import opener
from gridfs.read.budget import cgroup_memory_limit_bytes, usable_memory_bytes
from gridfs.turns import Turns
from gridfs.vfs_push import SHARE_OF_MEMORY, Pusher


class Shortcuts:
    """Those of one session. Used from trio's thread."""

    def __init__(self, spec: MountSpec, version: OpenVersion, *, is_hidden: bool, has_hook: bool) -> None:
        """*is_hidden*: the FUSE mount is not what users see; *has_hook*: zero_open's is in place."""
        self._reader = version.reader
        self._extents = extents = Extents(version.manifest)
        version.reader.file_bytes_in = extents.bytes_in
        self.image = _image_of(spec, version) if is_hidden else None
        """What the kernel may be given; whether it takes it is seen later (reveal.py)."""
        memory_bytes = usable_memory_bytes(cgroup_memory_limit_bytes())
        fits = version.manifest.info.total_bytes <= memory_bytes * SHARE_OF_MEMORY
        self._pusher = Pusher(extents, version.reader, store_pages, takes_fills=fits, on_defect=version.on_defect)
        self._fast = self._fast_reads() if has_hook else None

    def _fast_reads(self) -> FastReads | None:
        loaded = fast_reads.load()
        if loaded is None:
            return None
        return FastReads(loaded, self._extents, self._reader, self.image.small_files if self.image else None)

    def start(self, nursery: trio.Nursery) -> Turns:
        """Begins their tasks in *nursery*; what pyfuse3 is to take for the module trio."""
        nursery.start_soon(self._pusher.run, name="push")
        if self._fast is None:
            return Turns()
        nursery.start_soon(self._fast.run, name="fast reads")
        return Turns(self._fast.start)

    def shown(self, record: MountRecord, nursery: trio.Nursery) -> None:
        """The tree of *record* can be seen, by the image if the kernel took it."""
        if record.tree_path is not None and self._fast is not None:  # by Python, what is read ahead would be in the way
            self._pusher.open_ahead = opener(record.tree_path)
        if self.image is not None and record.on_block_device:
            self.image.on_scan = lambda *extent: nursery.start_soon(_read_ahead, record.shown_device, *extent)

    async def stop_pushing(self) -> None:
        """Returns when nothing is being pushed. While reads are still answered: it may wait for one."""
        await self._pusher.stop()

    def end(self) -> None:
        """Ends the thread in C: before the device is closed, and the reader's buffers go."""
        if self._fast is not None:
            self._fast.end()

    def counts(self) -> dict[str, Any]:
        """How many READs and files they took, up to now."""
        if self._fast is not None:
            self._fast.drain()
        return {
            "reads_answered_in_c": self._fast.answered_reads if self._fast is not None else 0,
            "files_read_ahead": self._pusher.pushed_files,
        }


def _image_of(spec: MountSpec, version: OpenVersion) -> Image | None:
    options = spec.options
    if not options.image or options.xattr or spec.version.mode is Mode.NO_COPY:
        return None
    if not pays(version.manifest.info):
        return None
    return Image(version.manifest, version.files, spec.source)


async def _read_ahead(device: str, offset: int, size_bytes: int) -> None:
    with contextlib.suppress(OSError):  # it has gone, or is not for us to open
        await trio.to_thread.run_sync(kernel.read_ahead, device, offset, size_bytes)
