"""The last step of a start: the kernel's limits are set, and the file system appears where people look for it.

Asks the mount for things, so it runs in a worker thread of the daemon, whose event loop answers.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from gridfs.errors import Unsupported
from gridfs.image import Image
from gridfs.mount import kernel, registry, veil
from gridfs.mount.handed_in import NOT_OURS, descriptor_of
from gridfs.mount.mounts import current, is_block_device, top_at
from gridfs.mount.spec import MountRecord, MountSpec

log = logging.getLogger("gridfs.mount")


def reveal(
    spec: MountSpec, fuse_path: Path, image: Image | None, *, zero_open: bool, read_ahead_kib: int
) -> MountRecord:
    """Shows what is mounted at *fuse_path* at the target, unless it is there already; what the mount then is.

    With an *image* the kernel mounts that, if it can. Raises Unsupported when nothing can be shown.
    """
    tree_path = None
    if descriptor_of(fuse_path) is not None:
        device = veil_device = None
        read_ahead = max_background = veiled = NOT_OURS
    else:
        mounted = top_at(fuse_path, current())
        if mounted is None:
            raise Unsupported(f"{fuse_path} was unmounted while it was being mounted")
        device = mounted.device
        read_ahead = str(kernel.set_read_ahead(device, read_ahead_kib))
        max_background = str(kernel.set_max_background(device, spec.directory / registry.EMPTY))
        refused = veil.refusal(spec.options)
        before = kernel.bdis()
        if image is not None and refused is None and _mount_image(spec, fuse_path, image):
            tree_path = spec.directory / registry.TREE
            veiled, veil_device = veil.IMAGE, _show_image(spec, tree_path)
            on_device = is_block_device(veil_device)
            read_ahead = str(
                kernel.set_read_ahead(veil_device, read_ahead_kib)
                if on_device
                else kernel.set_image_read_ahead(before, read_ahead_kib)
            )
        else:
            veiled, veil_device = _show(spec, fuse_path, refused)
    return MountRecord(
        mount_id=spec.mount_id,
        name=spec.version.name,
        version=spec.version.version,
        store_url=spec.store.url,
        uid=os.geteuid(),
        gid=os.getegid(),
        pid=os.getpid(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        target=spec.target,
        target_made=spec.target_made,
        fuse_path=fuse_path,
        fuse_device=device or "",
        veil_device=veil_device,
        zero_open=zero_open,
        veil=veiled,
        tree_path=tree_path,
        read_ahead=read_ahead,
        max_background=max_background,
        cache_directory=spec.cache.directory,
        log_file=spec.log_file,
        linger_s=spec.linger_s,
    )


def _mount_image(spec: MountSpec, fuse_path: Path, image: Image) -> bool:
    tree_path = spec.directory / registry.TREE
    image.offered = image.has_two_devices = True
    try:
        veil.mount_image(fuse_path, tree_path, spec.source, spec.directory, image.addresses.metadata_bytes)
    except OSError as of_devices:
        image.has_two_devices = False
        try:
            veil.mount_image_file(fuse_path, tree_path, spec.source)
        except OSError as of_file:
            log.info("%s can't be an image: by loop devices: %s; as a file: %s", spec.source, of_devices, of_file)
            return False
    finally:
        image.offered = False
    return True


def _show_image(spec: MountSpec, tree_path: Path) -> str:
    """The image's device, once it is seen at the target too."""
    if spec.target is not None:
        try:
            veil.bind(tree_path, spec.target)
        except OSError as error:
            raise Unsupported(f"{spec.target} can't be mounted on: {error.strerror}") from error
    top = top_at(tree_path, current())
    if top is None:
        raise Unsupported(f"{tree_path} was unmounted while it was being mounted")
    return top.device


def _show(spec: MountSpec, fuse_path: Path, refusal: str | None) -> tuple[str, str | None]:
    """Whether there is a veil now, or why not; and its device."""
    if spec.target is None:
        return "off: each run has its own", None
    if spec.target == fuse_path:
        return "off: only root may mount one", None
    try:
        shown = veil.show(fuse_path, spec.directory / registry.EMPTY, spec.target, spec.source, veil=refusal is None)
    except OSError as error:
        raise Unsupported(f"{spec.target} can't be mounted on: {error.strerror}") from error
    if shown != veil.OVERLAY:
        return refusal or shown, None
    top = top_at(spec.target, current())
    return shown, top.device if top is not None else None
