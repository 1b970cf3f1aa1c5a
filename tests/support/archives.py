"""Archives of a tree by the programs that people use, and by hand where no program would make them."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.support.data import ramp


def make_tree(root: Path, large_bytes: int) -> None:
    """A tree of everything that every archive format here can hold."""
    (root / "empty directory").mkdir(parents=True)
    (root / "empty").touch()
    (root / "a").mkdir()
    (root / "a" / "b").write_bytes(ramp(600))
    (root / "a-b").write_bytes(ramp(700, 1))
    (root / "program").write_bytes(b"#!/bin/sh\n")
    (root / "program").chmod(0o755)
    (root / "grün").write_bytes(ramp(50, 2))
    (root / ("n" * 200)).write_bytes(ramp(400, 3))
    (root / "large").write_bytes(ramp(large_bytes, 4))
    (root / "a" / "link").symlink_to("../a-b")
    deep = root.joinpath(*(f"level {level}" for level in range(20)))
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(ramp(500, 5))
    for number in range(60):
        (root / "a" / f"{number:03}").write_bytes(ramp(3000, 10 + number))
    for number, path in enumerate(sorted(root.rglob("*"))):
        moment = 1_500_000_000_000_000_000 + number * 2_000_000_000
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(root, (1_500_000_000, 1_500_000_000))


def _run(directory: Path, *command: str) -> None:
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"TZ": "UTC"})


def _tar(*options: str) -> Callable[[Path, Path], None]:
    return lambda root, out: _run(root, "tar", *options, "-cf", str(out), ".")


def _bsdtar(*options: str) -> Callable[[Path, Path], None]:
    return lambda root, out: _run(root, "bsdtar", *options, "-cf", str(out), ".")


def _python_tar(form: int) -> Callable[[Path, Path], None]:
    def make(root: Path, out: Path) -> None:
        with tarfile.open(out, "w", format=form) as tar:
            tar.add(root, ".")

    return make


def _python_zip(root: Path, out: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            if not path.is_symlink():
                archive.write(path, path.relative_to(root))


def _zip(*options: str) -> Callable[[Path, Path], None]:
    return lambda root, out: _run(root, "zip", "-qr", *options, str(out), ".")


def _7z(*options: str) -> Callable[[Path, Path], None]:
    return lambda root, out: _run(root, "7z", "a", "-bd", "-y", *options, str(out), ".")


TARS: dict[str, Callable[[Path, Path], None]] = {
    "gnu.tar": _tar(),
    "posix.tar": _tar("--format=posix"),
    "v7.tar.gz": _tar("--format=oldgnu", "-z"),
    "gnu.tar.bz2": _tar("-j"),
    "gnu.tar.xz": _tar("-J"),
    "gnu.tar.zst": _tar("--zstd"),
    "bsd.tgz": _bsdtar("-z"),
    "bsd-pax.tar.xz": _bsdtar("--format=pax", "-J"),
    "python-pax.tar": _python_tar(tarfile.PAX_FORMAT),
    "python-gnu.tar": _python_tar(tarfile.GNU_FORMAT),
}

ZIPS: dict[str, Callable[[Path, Path], None]] = {
    "info-zip.zip": _zip("-y"),
    "info-zip-stored.zip": _zip("-y", "-0"),
    "info-zip-zip64.zip": _zip("-y", "-fz"),
    "info-zip-bzip2.zip": _zip("-y", "-Z", "bzip2"),
    "bsd.zip": _bsdtar("--format=zip"),
    "7z.zip": _7z("-tzip", "-snl"),
    "7z-lzma.zip": _7z("-tzip", "-mm=LZMA", "-snl"),
    "python.zip": _python_zip,
}


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of members made by hand."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if content else None)
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A header of a member of that kind."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    return info


def zip_of(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files made by hand, names as they are given."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.compress_type = compression
            info.create_system = 3
            archive.writestr(info, content)
    return out.getvalue()
