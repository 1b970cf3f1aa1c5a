"""From a MountSpec to a file system that can be read: store, manifest, caches, reader, vfs, one made of the other.

Nothing here knows FUSE. Everything that is opened is closed in the opposite order.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from gridfs.cache.memory import MemoryCache
from gridfs.cache.tiered import TieredCache, open_cache
from gridfs.catalog import Catalog
from gridfs.catalog_contents import Contents, open_contents
from gridfs.config import CacheSettings, ensure_cache
from gridfs.errors import StoreUnavailable
from gridfs.manifest.reader import Manifest
from gridfs.mount.attendant import SharedQuestions
from gridfs.mount.spec import MountSpec
from gridfs.observe import Counters, Incidents
from gridfs.read.reader import Reader, ReaderSettings
from gridfs.store.stack import open_store
from gridfs.store.trace import StoreStatistics
from gridfs.vfs import FileSystem, View, Volume


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """A version that can be read."""

    files: FileSystem
    reader: Reader
    manifest: Manifest
    store_statistics: StoreStatistics
    questions: SharedQuestions
    """To the catalog of the store that the version came from."""
    on_defect: Callable[[BaseException, str], None]
    """Told of an error that should not be, and of what it met."""


@asynccontextmanager
async def open_version(spec: MountSpec, incidents: Incidents, counters: Counters) -> AsyncIterator[OpenVersion]:
    """The version of *spec*; its manifest is fetched when the node has it not. Raises GridfsError.

    The reader is to be run by the caller, and ended before this is left.
    """
    statistics = StoreStatistics()
    store = await open_store(spec.store, statistics=statistics)
    try:
        ensure_cache(spec.cache.directory)
        catalog = Catalog(store)
        cache = spec.cache.directory
        async with open_contents(catalog, spec.version, cache, spec.store, statistics=statistics) as contents:
            on_defect = partial(_note_defect, incidents, counters)
            reader = _reader(spec, contents, incidents, on_defect)
            files = _files(spec, contents.manifest, reader)
            questions = SharedQuestions(catalog.resolve)
            yield OpenVersion(files, reader, contents.manifest, statistics, questions, on_defect)
    finally:
        with trio.CancelScope(shield=True):
            await store.aclose()


def _note_defect(incidents: Incidents, counters: Counters, error: BaseException, subject: str) -> None:
    counters.add("defects")
    incidents.note(error, subject)


def _reader(
    spec: MountSpec, contents: Contents, incidents: Incidents, on_defect: Callable[[BaseException, str], None]
) -> Reader:
    settings = ReaderSettings.of(spec.cache, spec.options)
    cache = _cache(spec.cache, contents, incidents)
    return Reader(contents.manifest, contents.objects, contents.key_of, cache, settings, on_defect=on_defect)


def _cache(settings: CacheSettings, contents: Contents, incidents: Incidents) -> TieredCache:
    """The caches; with an incident when the disk fails: memory alone will do."""
    try:
        return open_cache(settings, contents.store, contents.path_of)
    except OSError as error:
        failure = StoreUnavailable(
            f"the cache in {settings.directory} is off: {error.strerror}", remedy="make room, or choose --cache-dir"
        )
        incidents.note(failure, str(settings.directory))
        return TieredCache(MemoryCache())


def _files(spec: MountSpec, manifest: Manifest, reader: Reader) -> FileSystem:
    view = View.of(spec.options, uid=os.geteuid(), gid=os.getegid())
    info = manifest.info
    return FileSystem(manifest, reader, view, Volume.of(total_bytes=info.total_bytes, entry_count=info.entry_count))
