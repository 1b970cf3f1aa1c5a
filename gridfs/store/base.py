"""What gridfs asks of an object store: the promises that every store keeps and tests/contract checks.

Keys are relative to the store's root, `/`-separated, without a leading slash, `.` or `..`. All methods may be called
concurrently. All of them map foreign failures to the classes of `gridfs.errors`:

    ObjectMissing      no object of that key
    ObjectChanged      *if_match* was given and the object has another ETag
    ObjectExists       a create-only put found the key taken
    AccessDenied       401, 403, archived storage classes
    StoreUnavailable   anything that may work if tried again; the store itself does not try again (store/stack does)

Cancelling a call abandons it: its effect is then unknown for puts, and nothing for reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from gridfs.model import Buffer, ByteRange

Deliver: TypeAlias = Callable[[memoryview], None]
"""Takes the next bytes in order, in the trio thread. What it raises ends the stream, and is raised there."""


def ignore(chunk: memoryview) -> None:
    """A Deliver for whoever wants all bytes at the end, in a buffer of their own."""


def placing(deliver: Deliver, into: memoryview | None) -> Deliver:
    """*deliver* for a store that has chunks of its own: copies each to its place in *into*, if there is one."""
    if into is None:
        return deliver
    filled = 0

    def place(chunk: memoryview) -> None:
        nonlocal filled
        view = into[filled : filled + chunk.nbytes]
        view[:] = chunk
        filled += chunk.nbytes
        deliver(view)

    return place


class ObjectHead(NamedTuple):
    """What a listing says of an object. A NamedTuple, because a listing makes millions of them."""

    key: str
    size_bytes: int
    etag: str | None
    last_modified_ns: int
    storage_class: str | None = None


class ObjectStore(Protocol):
    """A place that keeps immutable objects by key."""

    @property
    def url(self) -> str:
        """Where it is, as a user would write it; never with credentials."""
        ...

    async def prepare(self) -> None:
        """Does ahead what the first read would wait for: credentials, a connection. Never raises for a server's fault;
        the first read will find it.
        """
        ...

    def begin_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> bool:
        """Has the server begin with what get_range or stream_range of the same arguments will be called for at once.

        Whether it did. Never waits and never raises; a store may always say no. What was begun and is not called for
        costs a connection.
        """
        ...

    async def get_range(self, key: str, byte_range: ByteRange, *, if_match: str | None = None) -> memoryview:
        """Exactly the bytes of *byte_range*, which must be non-empty and lie inside the object. Idempotent.

        Fewer bytes are a StoreUnavailable, and if the object itself is shorter a StoreRefused. The view may be kept;
        it pins a buffer of its size.
        """
        ...

    async def stream_range(
        self,
        key: str,
        byte_range: ByteRange,
        deliver: Deliver,
        *,
        if_match: str | None = None,
        into: memoryview | None = None,
    ) -> None:
        """As get_range, but hands over each chunk as it arrives (parts of up to 8 MiB).

        With *into*, a buffer of the size of the range, the chunks are views of it: the bytes lie there in order.
        """
        ...

    async def get(self, key: str) -> memoryview:
        """A whole small object (records, marks; up to some MiB)."""
        ...

    async def head(self, key: str) -> ObjectHead:
        """What the store knows of *key*."""
        ...

    async def put(self, key: str, data: Buffer) -> None:
        """Writes the object in one piece; atomic: a reader sees nothing or all of it. Replaces an older one."""
        ...

    async def put_stream(self, key: str, chunks: AsyncIterator[Buffer], *, size_hint_bytes: int = 0) -> int:
        """As put, for an object of any size in bounded memory (at most 64 MiB); the number of bytes written.

        An object above 78 GiB must be announced by *size_hint_bytes*: S3 takes 10,000 parts, and they then are larger.
        """
        ...

    async def put_if_absent(self, key: str, data: Buffer) -> None:
        """Writes a small object only if the key is free, atomically among all writers. Raises ObjectExists."""
        ...

    async def verify_create_only(self) -> None:
        """Raises Unsupported when the store ignores create-only puts, so that two creators could make one version.

        Costs three small requests; a creation awaits it before it uploads anything.
        """
        ...

    async def delete(self, key: str) -> None:
        """Removes the object; not an error when there is none."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        """All objects whose key starts with *prefix* (a plain string prefix), in any order."""
        ...

    async def list_directories(self, prefix: str) -> Sequence[str]:
        """The distinct next components below *prefix* (empty, or ends in `/`), sorted, without the slash."""
        ...

    async def sync(self) -> None:
        """Returns once everything put so far would survive a power cut. Object stores promise that by themselves."""
        ...

    async def aclose(self) -> None:
        """Releases connections and threads. Idempotent."""
        ...
