"""Walks a tar archive in one pass, with the standard library's parser and none of its extraction.

tarfile ends quietly at a header that it can't read, and at the end of the file; here both are damage, unless the
archive's end mark (two blocks of zeros) was seen. What follows the mark is read to its end, so that the checksum of the
compression around it is verified too. Zeros there are padding; anything else (of `cat a.tar b.tar` the second archive)
is left out, as `tar -x` does, and reported.

A sparse file of which over 8 GiB are stored has two sizes in its PAX header: `size` is what is stored, the map of its
holes included, and `GNU.sparse.realsize` (or `.size`) is how long the file is. tarfile believes whichever comes
last, and looks for the next header by it, from behind the map (cpython #136601, #136602). Both are put right here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Self, cast

from gridfs.create.archive_rules import MODE_MASK, Account, damaged, entry_path, link_outside, link_stays_inside
from gridfs.create.decompress import Readable
from gridfs.create.source import Arrivals, Found, clamped_ns
from gridfs.errors import SourceProblem
from gridfs.model import Kind, Problem

BLOCK_SIZE_BYTES = 512
_READ_SIZE_BYTES = 256 << 10
_PADDING = bytes(_READ_SIZE_BYTES)
_SKIPPED = {
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "fifo",
}


def is_tar(beginning: bytes) -> bool:
    """Whether *beginning* (512 bytes) is a tar header, by its checksum; also of archives older than `ustar`."""
    if len(beginning) < BLOCK_SIZE_BYTES:
        return False
    if not any(beginning):
        return True  # an archive of nothing begins with its end mark
    try:
        tarfile.TarInfo.frombuf(beginning[:BLOCK_SIZE_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def stream_tar(content: Readable, arrivals: Arrivals, account: Account) -> None:
    """Hands over everything in the uncompressed tar *content*. Raises SourceProblem."""
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", content),
            mode="r|",
            bufsize=_READ_SIZE_BYTES,
            tarinfo=_StrictInfo,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            for member in _members(tar):
                account.add_entry()
                _Member(tar, member, arrivals, account).hand_over()
            is_followed = _is_followed(tar)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise damaged(account.archive, error) from error
    if is_followed:
        arrivals.add_problem(
            Problem("trailing-bytes", b"", "something else follows the tar, perhaps another one; it is left out")
        )
    if account.has_rest:
        arrivals.add_problem(
            Problem("trailing-bytes", b"", "something else follows the compressed data; it is left out")
        )


class _StrictInfo(tarfile.TarInfo):
    """A header that remembers how the archive ended, and where its data begins."""

    stored_at: int | None = None

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Called for a PAX header, and by it for the header that follows, which is then returned by both."""
        try:
            info = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(
                f"at byte {tarfile_.offset}: {str(error) or 'no header where one belongs'}"
            ) from error
        if info.stored_at is None:
            info.stored_at = info.offset_data
        elif info.issparse() and "size" in info.pax_headers:
            info._tell_sizes_apart(tarfile_, info.stored_at)
        return info

    def _tell_sizes_apart(self, tarfile_: tarfile.TarFile, stored_at: int) -> None:
        headers = self.pax_headers
        real_size = headers.get("GNU.sparse.realsize", headers.get("GNU.sparse.size"))
        if real_size is None:
            raise tarfile.ReadError(f"the sparse file {self.name!r} does not say how long it is")
        self.size = int(real_size)
        tarfile_.offset = stored_at + -(-int(headers["size"]) // BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members one after another; tarfile's own list of them is kept empty, or it would hold them all."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]


def _is_followed(tar: tarfile.TarFile) -> bool:
    """Reads all that lies behind the end mark; whether any of it is not padding."""
    stream, found = cast("Readable", tar.fileobj), False  # what it has read ahead comes first
    while data := stream.read(_READ_SIZE_BYTES):
        found = found or data != _PADDING[: len(data)]
    return found


class _Member:
    def __init__(self, tar: tarfile.TarFile, member: tarfile.TarInfo, arrivals: Arrivals, account: Account) -> None:
        self._tar = tar
        self._member = member
        self._arrivals = arrivals
        self._account = account
        self._path = entry_path(_bytes(member.name), account.archive)

    def hand_over(self) -> None:
        member, path = self._member, self._path
        mode, mtime_ns = member.mode & MODE_MASK, _mtime_ns(member)
        if member.isdir():
            self._arrivals.entry(Found(path, Kind.DIRECTORY, mode, 0, mtime_ns))
        elif not path:
            raise damaged(self._account.archive, f"an entry that is no directory has the name {member.name!r}")
        elif member.issym():
            target = _bytes(member.linkname)
            if link_stays_inside(path, target):
                self._arrivals.entry(Found(path, Kind.SYMLINK, 0o777, len(target), mtime_ns, target))
            else:
                self._arrivals.add_problem(link_outside(path, target))
        elif member.islnk():
            earlier = entry_path(_bytes(member.linkname), self._account.archive)
            self._arrivals.entry(Found(path, Kind.FILE, mode, 0, mtime_ns, same_as=earlier))
        elif reason := _SKIPPED.get(member.type):
            self._arrivals.add_problem(Problem(reason, path))
        elif member.isreg():
            self._arrivals.file(Found(path, Kind.FILE, mode, member.size, mtime_ns), self._reader())
        else:
            raise SourceProblem(
                f"{self._account.archive}: {member.name!r} is of a kind that tar does not define ({member.type!r})"
            )

    def _reader(self) -> _Content:
        if not self._member.issparse():
            return _Content(self._tar, self._member)
        return _Sparse(self._tar, self._member, self._account)


class _Content:
    """The bytes of a regular file: read straight from the stream, without tarfile's two layers of buffers."""

    def __init__(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._tar = tar
        self._left = member.size
        self._started = False
        self._offset = member.offset_data

    def __call__(self, view: memoryview, /) -> int:
        stream = self._tar.fileobj
        assert stream is not None
        if not self._started:
            stream.seek(self._offset)
            self._started = True
        wanted = min(len(view), self._left, _READ_SIZE_BYTES)
        if not wanted:
            return 0
        data = stream.read(wanted)
        if not data:
            raise tarfile.ReadError("unexpected end of data")
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)


class _Sparse(_Content):
    """The bytes of a sparse file, with its holes as zeros: what comes out is counted, since a header of 1 KiB can stand
    for terabytes."""

    def __init__(self, tar: tarfile.TarFile, member: tarfile.TarInfo, account: Account) -> None:
        super().__init__(tar, member)
        parts = cast("list[tuple[int, int]]", member.sparse)
        if any(start + length > member.size for start, length in parts):
            raise tarfile.ReadError(f"the sparse file {member.name!r} has data behind its end")
        self._file = tar.extractfile(member)
        self._account = account

    def __call__(self, view: memoryview, /) -> int:
        assert self._file is not None
        data = self._file.read(min(len(view), _READ_SIZE_BYTES))
        view[: len(data)] = data
        self._account.add_out(len(data))
        return len(data)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """To the nanosecond where a PAX header gives it (as a decimal that no float can hold)."""
    text = member.pax_headers.get("mtime")
    if text is not None:
        try:
            seconds, _, fraction = text.partition(".")
            nanoseconds = int((fraction + "000000000")[:9])
            sign = -1 if seconds.startswith("-") else 1
            return clamped_ns(int(seconds) * 1_000_000_000 + sign * nanoseconds)
        except ValueError:
            return 0
    return clamped_ns(int(member.mtime) * 1_000_000_000)
