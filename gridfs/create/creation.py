"""One creation from end to end: source, journal, objects, manifest, commit record.

    claim the journal -> lease -> scan -> take over from the version before -> read, pack and upload the rest
    -> sync -> manifest -> commit -> give the lease back

The order is the invariant: a commit record names only what is durable (invariant 1), and until it is put there is no
version (7). A crash at any step leaves a journal, and perhaps objects that no version names: the next run of the same
request goes on with both, and garbage collection takes the objects otherwise.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from gridfs import __version__
from gridfs.catalog import Catalog
from gridfs.catalog_keys import manifest_key, object_key
from gridfs.catalog_lease import Lease
from gridfs.config import BLOCK_SIZE_BYTES, PACK_SIZE_BYTES, Paths, StoreSettings
from gridfs.create.archive_rules import refuse_clash
from gridfs.create.arrive import Arriving
from gridfs.create.compose import write_manifest
from gridfs.create.expected import Expected
from gridfs.create.groups import single_error
from gridfs.create.journal import Journal, opened_journal
from gridfs.create.node_disk import disk_failures_named
from gridfs.create.opening import bucket_of, opened_source
from gridfs.create.progress import Progress
from gridfs.create.protection import Protection, forget_what_is_gone, protected
from gridfs.create.publish import Publisher, PublishSettings
from gridfs.create.request import CreateRequest, SourceKind
from gridfs.create.reuse import learn, leave_to_repack
from gridfs.create.source import Source, SourceTotals, StreamedSource
from gridfs.create.workplace import claimed, discard
from gridfs.errors import GridfsError, InvalidInput, SourceProblem
from gridfs.manifest.reader import Manifest
from gridfs.manifest.schema import ManifestInfo, ManifestSettings
from gridfs.model import Mode, Version
from gridfs.selection import default_store
from gridfs.store.base import ObjectStore

_REPORT_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class ProblemCount:
    """How often one thing could not be represented (the names are in the manifest)."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What a creation has made."""

    version: Version
    sent_bytes: int
    """Bytes of objects that this run uploaded."""
    reused_files: int
    """Files that this run did not have to read, because an earlier run or version holds them."""
    reused_bytes: int
    problems: tuple[ProblemCount, ...]
    notes: tuple[str, ...] = ()
    """What else the user should know of the source, such as the region of its bucket."""


async def create_datastore(
    request: CreateRequest,
    store: ObjectStore,
    paths: Paths,
    progress: Progress,
    *,
    store_settings: StoreSettings | None = None,
    block_size_bytes: int = BLOCK_SIZE_BYTES,
    pack_size_bytes: int = PACK_SIZE_BYTES,
) -> CreateResult:
    """Makes the next version of `request.name`. *store_settings* are kept for a `resume` without arguments.

    Whatever it raises, no version exists (but see Catalog.commit for a lost answer), and the same request
    continues where this one ended. A cancellation that comes while it commits is too late: the result is returned.
    Raises NotFound, InvalidInput, AccessDenied or SourceProblem for the source, Unsupported for a disk of this node
    that is full or fails, and what the store raises.
    """
    if store.url == default_store(paths).url:
        with suppress(OSError):  # the store says it, when it is written to
            os.makedirs(paths.data, 0o700, exist_ok=True)  # what is in it was perhaps for its owner's eyes alone
    with trio.CancelScope() as whole, disk_failures_named(paths.state):
        where = replace(store_settings or StoreSettings(store.url), url=store.url)
        async with opened_source(request, where, paths) as (source, notes):
            return await _create(
                request, source, notes, store, store_settings, paths, progress, block_size_bytes, pack_size_bytes, whole
            )
    raise AssertionError("nobody cancels it")


async def _create(
    request: CreateRequest,
    source: Source,
    notes: tuple[str, ...],
    store: ObjectStore,
    store_settings: StoreSettings | None,
    paths: Paths,
    progress: Progress,
    block_size_bytes: int,
    pack_size_bytes: int,
    whole: trio.CancelScope,
) -> CreateResult:
    with claimed(paths, request, store.url, store_settings) as directory:
        on_clash = refuse_clash(source.label) if isinstance(source, StreamedSource) else None
        journal = opened_journal(directory / "journal.sqlite", on_clash=on_clash)
        settings = PublishSettings(
            block_size_bytes,
            lambda object_id: object_key(request.name, object_id),
            request.skip_unreadable,
            pack_size_bytes,
        )
        creation = _Creation(request, source, store, journal, directory, paths.cache, progress, settings, whole)
        try:
            with disk_failures_named(paths.state):
                result = await creation.run()
        except GridfsError:
            if not journal.has_durable():  # nothing that a later run could go on with
                discard(directory)
            raise
        finally:
            journal.close()
        discard(directory)
    return replace(result, notes=notes + result.notes)


class _Creation:
    def __init__(
        self,
        request: CreateRequest,
        source: Source,
        store: ObjectStore,
        journal: Journal,
        directory: Path,
        cache: Path,
        progress: Progress,
        settings: PublishSettings,
        whole: trio.CancelScope,
    ) -> None:
        self._whole = whole
        self._request = request
        self._source = source
        self._store = store
        self._catalog = Catalog(store)
        self._journal = journal
        self._directory = directory
        self._progress = progress
        self._cache = cache
        self._settings = settings
        self._notes: tuple[str, ...] = ()

    async def run(self) -> CreateResult:
        await self._store.verify_create_only()
        async with protected(self._catalog, self._request.name, self._journal, self._progress) as protection:
            return await self._run(protection)

    async def _run(self, protection: Protection) -> CreateResult:
        await self._forget_what_is_gone(self._journal.durable_objects())
        if isinstance(self._source, StreamedSource):
            return await self._arrive(self._source, protection)
        self._progress.on_phase("scanning")
        async with self._reporting_scan():
            self._journal.begin_scan()
            await self._source.scan(self._journal)
        await trio.to_thread.run_sync(self._journal.end_scan)
        if not self._journal.has_entries():
            self._refuse_empty()
        if self._request.strict:
            self._refuse_problems()
        if self._request.mode is Mode.NO_COPY:
            return await self._finish(protection, sent_bytes=0, reused=SourceTotals(0, 0))
        async with self._learned(protection.base, by_path=self._trusts(protection.base)) as manifest:
            if manifest is not None:
                await trio.to_thread.run_sync(leave_to_repack, self._journal)
        unread = await trio.to_thread.run_sync(self._journal.totals, False)
        reused = await trio.to_thread.run_sync(self._journal.totals, True)
        self._progress.on_total(unread.files, unread.total_bytes)
        self._progress.on_phase("reading")
        publisher = Publisher(self._source, self._journal, self._store, self._settings, self._progress)
        await publisher.run()
        return await self._finish(protection, publisher.sent_bytes, reused)

    async def _arrive(self, source: StreamedSource, protection: Protection) -> CreateResult:
        journal = self._journal
        async with self._learned(protection.base, by_path=False) as manifest:
            self._progress.on_phase("reading")
            journal.begin_scan()
            expected = Expected(journal, manifest if self._trusts(protection.base) else None)
            arriving = Arriving(journal, self._store, self._settings, self._progress, expected)
            await arriving.run(source)
        await trio.to_thread.run_sync(journal.end_scan)
        if not journal.has_entries():
            self._refuse_empty()
        if self._request.strict:
            self._refuse_problems()
        reused = SourceTotals(arriving.reused_files, arriving.reused_bytes)
        return await self._finish(protection, arriving.sent_bytes, reused)

    def _trusts(self, base: Version | None) -> bool:
        """Whether a file of the same path, size and mtime in *base* is the same file."""
        return base is not None and base.source == self._source.label and not self._request.checksum

    async def _forget_what_is_gone(self, objects: Sequence[tuple[int, str, int]]) -> int:
        return await forget_what_is_gone(self._store, self._journal, self._settings.key_of, objects)

    async def _finish(self, protection: Protection, sent_bytes: int, reused: SourceTotals) -> CreateResult:
        self._progress.on_phase("writing the manifest")
        await self._store.sync()
        version = await self._commit(protection.lease)
        problems = tuple(ProblemCount(*row) for row in self._journal.problem_counts())
        return CreateResult(version, sent_bytes, reused.files, reused.total_bytes, problems, self._notes)

    @asynccontextmanager
    async def _learned(self, base: Version | None, *, by_path: bool) -> AsyncIterator[Manifest | None]:
        """The manifest of the version before, whose content the journal knows then, as far as the store still has it;
        None if nothing can be taken over from it. *by_path* as for `learn`.
        """
        if base is None or base.mode is not Mode.COPY:
            yield None
            return
        self._progress.on_phase(f"comparing with version {base.version}")
        with Manifest.open(await self._catalog.fetch_manifest(base, self._cache)) as manifest:
            if manifest.info.block_size_bytes != self._settings.block_size_bytes:
                yield None
                return
            await trio.to_thread.run_sync(partial(learn, self._journal, manifest, by_path=by_path))
            lost = await self._forget_what_is_gone(self._journal.base_objects())
            if lost:
                label = f"{base.name}@{base.version}"
                self._notes += (
                    f"{lost} of the objects of {label} are gone from the store or were cut short: what they held and"
                    f" the source still has is stored anew; {label} stays damaged (grid datastore verify {label})",
                )
            yield manifest

    async def _commit(self, lease: Lease) -> Version:
        path = self._directory / "manifest.sqlite"
        settings = ManifestSettings(
            block_size_bytes=self._settings.block_size_bytes,
            mode=self._request.mode,
            source=self._source.label,
            created_by=f"gridfs {__version__}",
            bucket=bucket_of(self._source) if self._request.mode is Mode.NO_COPY else None,
        )
        info = await trio.to_thread.run_sync(write_manifest, self._journal, path, settings)
        packed = await self._catalog.store_manifest(self._request.name, path)
        await lease.confirm()
        # From here on there may be a version. Broken off, it would be called incomplete, and be made once more.
        self._whole.shield = True
        return await self._catalog.commit(self._draft(info, packed.sha256, packed.size_bytes))

    def _draft(self, info: ManifestInfo, sha256: str, size_bytes: int) -> Version:
        return Version(
            name=self._request.name,
            version=0,
            created_at="",
            source=info.source,
            mode=info.mode,
            file_count=info.file_count,
            directory_count=info.directory_count,
            symlink_count=info.symlink_count,
            total_bytes=info.total_bytes,
            manifest_key=manifest_key(self._request.name, sha256),
            manifest_sha256=sha256,
            manifest_bytes=size_bytes,
            problem_count=info.problem_count,
        )

    def _refuse_problems(self) -> None:
        counts = self._journal.problem_counts()
        if counts:
            first = next(self._journal.problems())
            listed = ", ".join(f"{count} {reason}" for reason, count in counts)
            detail = f" ({first.detail})" if first.detail else ""
            raise SourceProblem(
                f"{self._source.label} can't be kept whole: {listed}; the first is {os.fsdecode(first.name)!r}{detail}",
                remedy="leave --strict out to go on without them"
                + (", or name them by --exclude" if self._request.kind is SourceKind.BUCKET else ""),
            )

    def _refuse_empty(self) -> None:
        left_out = ", ".join(f"{count} {reason}" for reason, count in self._journal.problem_counts())
        detail = f" (what it holds can't be kept: {left_out})" if left_out else ""
        if self._request.include or self._request.exclude:
            raise InvalidInput(
                f"--include and --exclude leave nothing of {self._source.label}{detail}",
                remedy="a pattern is compared with the whole path below the prefix; --dry-run tells what is taken",
            )
        raise InvalidInput(
            f"{self._source.label} is empty{detail}", remedy="a datastore needs at least one file or directory"
        )

    @asynccontextmanager
    async def _reporting_scan(self) -> AsyncIterator[None]:
        """Tells how far the scan is, which works in a thread of its own."""

        async def report() -> None:
            while True:
                self._progress.on_scan(self._journal.found_files, self._journal.found_bytes)
                await trio.sleep(_REPORT_INTERVAL_S)

        with single_error():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(report, name="report the scan")
                yield
                nursery.cancel_scope.cancel()
        self._progress.on_scan(self._journal.found_files, self._journal.found_bytes)
