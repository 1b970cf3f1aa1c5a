"""Making a daemon's file system appear at a path, and taking it away again.

At best that is an image in the hidden FUSE mount, which the kernel has mounted (docs/decisions/image.md). Where there
can be none, who may mount sees a read-only overlayfs over the FUSE mount, the veil: Python's open() asks ioctl(TCGETS)
of every file, which FUSE forwards to the daemon each time (165 us) and overlayfs answers by itself (open().read() then
takes 37 us, local disk 29 us). Where the overlay is refused, or not wanted, a bind mount shows the same.

overlayfs without an upper layer wants two lower ones. From Linux 6.5 on the second can be for data only (`::`); then
the root is not merged, which costs 1.6 us an entry each time that it is listed, and inodes are the manifest's own.
Before, `xino=on` gives files and directories one device number, so that `tar --one-file-system` sees one file system.

Who may not mount has the FUSE mount itself at the path, put there and taken away by fusermount3.

Light: see gridfs/light.py.
"""

from __future__ import annotations

import errno
import os

from gridfs.mount import syscalls
from gridfs.mount.syscalls import MountFlag, UmountFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gridfs.config import MountOptions

    Place = str | os.PathLike[str]

SOURCE_PREFIX = "gridfs:"
IMAGE, OVERLAY = "image", "overlay"
"""What people see; anything else says why it is the FUSE mount itself."""
IMAGE_BLOCK_BYTES = 4096

_VEIL_FLAGS = MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV
"""And NOEXEC, where the FUSE mount was told so: `_flags_over`."""


def source_of(label: str) -> str:
    """First column of `df` and /proc/mounts for the version *label* (`imagenet@2`)."""
    return f"{SOURCE_PREFIX}{label}"


def refusal(options: MountOptions) -> str | None:
    """Why there shall be no veil; None when there may be one."""
    if not options.veil:
        return "off: --no-veil"
    if not options.allow_other and os.geteuid() == 0:  # the overlay asks as whoever mounted it, for anyone
        return "off: it would let other users in, and --allow-other is off"
    return None


def show(fuse_path: Place, empty: Place, target: Place, source: str, *, veil: bool) -> str:
    """Mounts what is at *fuse_path* at *target* too, in the way that is allowed; OVERLAY, or why there is no veil.

    Asks the file system for attributes: the daemon that serves it calls this from a worker thread. Raises OSError:
    ENOTCONN when it was unmounted meanwhile.
    """
    reason = "off"
    if veil:
        # overlayfs copies the root's attributes as the kernel knows them, and before a first GETATTR its mode is 0:
        # whoever has no capability to pass over that would be shut out for ever.
        os.stat(fuse_path)
        flags, upper, lower = _flags_over(fuse_path), _layer(fuse_path), _layer(empty)
        for options in (
            f"lowerdir={upper}::{lower}",
            f"lowerdir={upper}::{lower},metacopy=on",  # demanded with `::` by some kernels
            f"lowerdir={upper}:{lower},xino=on",
            f"lowerdir={upper}:{lower}",  # before 4.17
        ):
            try:
                syscalls.mount(source, target, "overlay", flags, options)
            except OSError as error:
                reason = f"off: overlayfs is refused ({error.strerror})"
            else:
                _check_shown(fuse_path, target)
                return OVERLAY
    bind(fuse_path, target)
    return reason


def mount_image(fuse_path: Place, tree: Place, source: str, scratch: Place, metadata_bytes: int) -> None:
    """Mounts the image that is the file *source* in the root of the FUSE mount at *fuse_path*, at *tree*.

    As two block devices, of which the first has the *metadata_bytes* at its beginning: a loop device takes 128 requests
    at a time, and names shall not wait for bytes. *scratch* is a directory of ours.

    Raises OSError: ENODEV without EROFS, or what the loop devices refuse with.
    """
    from gridfs.mount.loop import attached  # no run needs it

    file, flags = os.path.join(fuse_path, source), _flags_over(fuse_path)
    with (
        attached(file, IMAGE_BLOCK_BYTES, size_bytes=metadata_bytes) as metadata,
        attached(file, IMAGE_BLOCK_BYTES, offset=metadata_bytes) as content,
    ):
        link = os.path.join(scratch, source)
        os.symlink(metadata, link)
        try:
            _mount_named(scratch, source, tree, flags, f"device={content}")
        finally:
            os.unlink(link)


def mount_image_file(fuse_path: Place, tree: Place, source: str) -> None:
    """As mount_image, as the file that it is. Raises OSError: ENOTBLK where EROFS wants devices (before Linux 6.12)."""
    _mount_named(fuse_path, source, tree, _flags_over(fuse_path), "directio")


def _mount_named(directory: Place, name: str, tree: Place, flags: int, options: str) -> None:
    """Mounts the image *name* in *directory*, so that the mount is called *name* in `df`.

    In a thread, since a thread can have a working directory of its own.
    """
    import threading

    failures: list[OSError] = []

    def act() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_FS)
            os.chdir(directory)
            syscalls.mount(name, tree, "erofs", flags, options)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=act, name="mount image")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def bind(visible: Place, target: Place) -> None:
    """Shows at *target* what is mounted at *visible*. Raises OSError: ENOTCONN when it was unmounted meanwhile."""
    syscalls.mount(visible, target, None, MountFlag.BIND)
    _check_shown(visible, target)


def _check_shown(visible: Place, target: Place) -> None:
    """Takes *target* away again if nothing is mounted at *visible* any more: what it shows then is the empty directory
    that the mount was on, and would be taken for a datastore without files.
    """
    if not os.path.ismount(visible):
        detach(target)
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), os.fspath(visible))


def hide(target: Place, *, lazy: bool) -> None:
    """Takes the topmost mount at *target* away. Raises OSError: EBUSY while someone holds it, unless *lazy*.

    With *lazy* it is gone from the tree at once, and whoever holds something of it keeps that. One that somebody else
    takes away at the same time is gone too.
    """
    try:
        _unmount(target, lazy=lazy)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT) or _is_mounted_on(target):
            raise


def _is_mounted_on(target: Place) -> bool:
    from pathlib import Path  # no run needs it

    from gridfs.mount.mounts import current, top_at

    return top_at(Path(target), current()) is not None


def _unmount(target: Place, *, lazy: bool) -> None:
    if syscalls.may_mount():
        syscalls.umount(target, UmountFlag.DETACH if lazy else 0)
        return
    import subprocess  # no run needs it

    done = subprocess.run(
        ["fusermount3", "-u", *(["-z"] if lazy else []), "--", os.fspath(target)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        busy = "busy" in done.stderr
        message = done.stderr.strip().rpartition(": ")[2] or f"fusermount3 ended with {done.returncode}"
        raise OSError(errno.EBUSY if busy else errno.EINVAL, message, os.fspath(target))


def detach(target: Place) -> None:
    """`hide` for remains of a crash: at once, whoever holds them."""
    hide(target, lazy=True)


def _flags_over(fuse_path: Place) -> int:
    """Of a mount in place of that at *fuse_path*. `-o noexec` is the FUSE mount's, and nobody else would heed it."""
    return _VEIL_FLAGS | (os.statvfs(fuse_path).f_flag & MountFlag.NOEXEC)


def _layer(path: Place) -> str:
    """A path in overlayfs's option, where a colon ends a layer and a comma the option."""
    return os.fspath(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
