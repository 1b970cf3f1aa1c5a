"""A bucket, a prefix of one, or one object as a source.

Scanning lists by many requests at once (store/listing.py); each page becomes entries in a worker thread, so that the
next pages are parsed meanwhile. Reading streams bodies into the packs, PARALLEL_READS at once. Every read carries the
ETag that the scan saw, so bytes of two generations never meet; a body that came in one piece is compared with its ETag
where that is an MD5 (no multipart upload, no encryption by KMS).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from gridfs.create.bucket_keys import KeyMapping, Selection, file_of
from gridfs.create.groups import single_error
from gridfs.create.source import Found, Listing, Outcome, Reading, Wanted
from gridfs.errors import AccessDenied, CredentialsRefused, ObjectChanged, ObjectMissing
from gridfs.model import ByteRange, Kind, Problem, SourceBucket, range_within
from gridfs.store.base import ObjectHead, ObjectStore, ignore
from gridfs.store.listing import list_in_parallel

if TYPE_CHECKING:
    from gridfs.store.s3_bucket import S3Bucket
    from gridfs.store.s3_reach import Reached

PARALLEL_READS = 32
"""110 KiB behind 15 ms: 2,000 a second, more than two cores can hash and send again."""
_WHOLE_AT_ONCE_BYTES = 1 << 20
"""Up to here a body is fetched by one call; above, it is streamed in chunks (each costs a trip between threads)."""
_MD5 = re.compile(r'"([0-9a-f]{32})"')


class BucketSource:
    """A ListedSource of what *reached* means. *control* lists, *store* (the whole bucket) reads.

    *leave_out*: what the keys begin with that gridfs itself writes.
    """

    def __init__(
        self,
        reached: Reached,
        control: S3Bucket,
        store: ObjectStore,
        selection: Selection,
        leave_out: str | None = None,
    ) -> None:
        self.reached = reached
        self._control = control
        self._store = store
        self._selection = selection
        below = leave_out is not None and leave_out != reached.prefix and leave_out.startswith(reached.prefix)
        self._leave_out = leave_out if below else None
        self._reads = trio.CapacityLimiter(PARALLEL_READS)
        self._running: dict[bytes, _RunningMd5] = {}
        """Of files that are read in several pieces, which one reader asks for in order."""

    @property
    def label(self) -> str:
        single = self.reached.single
        return f"s3://{self.reached.address.bucket}/{single.key if single else self.reached.prefix}"

    @property
    def bucket(self) -> SourceBucket:
        """Where the objects of a no-copy version lie."""
        address = self.reached.address
        return SourceBucket(
            address.bucket,
            address.endpoint_url,
            address.region,
            self.reached.prefix,
            self.reached.is_signed,
            address.requester_pays,
        )

    async def scan(self, listing: Listing) -> None:
        mapping = KeyMapping(self.reached.prefix, self._selection)
        one_at_a_time = trio.Lock()
        own, own_is_told = self._leave_out, False

        def without_own(heads: Sequence[ObjectHead], own: str) -> Sequence[ObjectHead]:
            nonlocal own_is_told
            if not own_is_told and any(head.key.startswith(own) and mapping.of(head) for head in heads):
                own_is_told = True
                path = own[len(self.reached.prefix) :].rstrip("/").encode("utf-8", "surrogateescape")
                listing.add_problem(Problem("own-directory", path, "gridfs itself writes there"))
            return [head for head in heads if not head.key.startswith(own)]

        def add(heads: Sequence[ObjectHead]) -> None:
            files = []
            if own is not None:
                heads = without_own(heads, own)
            for head in heads:
                for result in mapping.of(head):
                    if isinstance(result, Problem):
                        listing.add_problem(result)
                    elif result.kind is Kind.FILE:
                        files.append(result)
                    else:
                        listing.add(result)
            listing.add_files(files)

        async def deliver(heads: Sequence[ObjectHead]) -> None:
            async with one_at_a_time:
                await trio.to_thread.run_sync(add, heads)

        if self.reached.single is not None:
            await deliver([self.reached.single])
            return
        prefix = self.reached.prefix
        await list_in_parallel(partial(self._control.list_page, prefix), prefix, deliver)

    async def read(self, wanted: Sequence[Wanted]) -> list[Reading]:
        readings = [Reading(Outcome.UNREADABLE)] * len(wanted)

        async def read_one(index: int) -> None:
            try:
                readings[index] = await self._read(wanted[index])
            finally:
                self._reads.release_on_behalf_of(index_of[index])

        index_of = [object() for _ in wanted]
        with single_error():
            async with trio.open_nursery() as nursery:
                for index in range(len(wanted)):
                    await self._reads.acquire_on_behalf_of(index_of[index])
                    nursery.start_soon(read_one, index, name="read an object")
        return readings

    async def look_again(self, file: Found) -> Found | None:
        try:
            head = await self._store.head(_key(file))
        except ObjectMissing:
            return None
        return file_of(head, file.path)

    async def _read(self, wanted: Wanted) -> Reading:
        file, destination = wanted.file, wanted.destination
        byte_range = range_within(wanted.start, wanted.start + destination.nbytes, file.size)
        try:
            await self._fetch(_key(file), byte_range, destination, file.etag)
            reading = await self._checked(wanted)
            if reading.outcome is Outcome.UNREADABLE and byte_range == (0, file.size):  # damaged on its way: once more
                await self._fetch(_key(file), byte_range, destination, file.etag)
                reading = await self._checked(wanted)
        except ObjectChanged:
            return Reading(Outcome.CHANGED, "another object has its key now")
        except ObjectMissing:
            return Reading(Outcome.UNREADABLE, "it is gone")
        except CredentialsRefused:
            raise  # not this object's fault: the next ones would all be left out
        except AccessDenied as error:
            return Reading(Outcome.UNREADABLE, str(error))
        return reading

    async def _fetch(self, key: str, byte_range: ByteRange, destination: memoryview, etag: str | None) -> None:
        if byte_range.size_bytes <= _WHOLE_AT_ONCE_BYTES:
            destination[:] = await self._store.get_range(key, byte_range, if_match=etag)
            return
        await self._store.stream_range(key, byte_range, ignore, if_match=etag, into=destination)

    async def _checked(self, wanted: Wanted) -> Reading:
        """READ, unless the whole of the file has been read now and its MD5 is not what the ETag says."""
        file = wanted.file
        match = _MD5.fullmatch(file.etag or "")
        if match is None:
            return Reading(Outcome.READ)
        running = self._running.get(file.path)
        if wanted.start == 0:
            running = self._running[file.path] = _RunningMd5()
        if running is None or running.position != wanted.start:  # not read in order: nothing to compare
            self._running.pop(file.path, None)
            return Reading(Outcome.READ)
        if wanted.destination.nbytes > _WHOLE_AT_ONCE_BYTES:
            await trio.to_thread.run_sync(running.update, wanted.destination)
        else:
            running.update(wanted.destination)
        if running.position < file.size:
            return Reading(Outcome.READ)
        del self._running[file.path]
        if running.hash.hexdigest() == match[1] or not await self._control.has_md5_etag(_key(file)):
            return Reading(Outcome.READ)
        return Reading(Outcome.UNREADABLE, f"its MD5 is {running.hash.hexdigest()}, and its ETag {file.etag}")


class _RunningMd5:
    def __init__(self) -> None:
        self.hash = hashlib.md5(usedforsecurity=False)
        self.position = 0

    def update(self, data: memoryview) -> None:
        self.hash.update(data)
        self.position += data.nbytes


def _key(file: Found) -> str:
    return file.locator.decode("utf-8", "surrogateescape")
