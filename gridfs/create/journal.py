"""What a creation has found and what of it is durable, on this node's disk: one SQLite file for each creation.

It bounds the memory of a creation of millions of entries, sorts them into the manifest's order, and is what a creation
that was killed goes on from. `kill -9` loses nothing that was committed. The tables, and what the next run makes of
them:

    found     one row for each entry, keyed by its place in the manifest's order (manifest/order.py). The next scan
              writes over them: a row keeps its content if its stamp is still the same, and one not found again goes.
    object    one row for each object: PENDING before its upload begins, DURABLE when the store has said that it is
              there, BASE if the version before holds it. What is PENDING or BASE when a journal is opened is forgotten
              with its contents (the object itself, if there is one, is left to garbage collection).
    content   what lies where in an object, by SHA-256: found by it, the same bytes are never uploaded twice.
    problem   the report; the part that a scan makes is made anew with each scan.

The connection is used by one thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from gridfs.create.journal_found import FoundWriter
from gridfs.create.journal_schema import (
    BASE,
    DURABLE,
    INDEX_CONTENTS,
    NAMED,
    NAMES_OF,
    PENDING,
    ROWS,
    SCHEMA,
    UNREAD,
    BaseFile,
    FoundRow,
    StoredObject,
)
from gridfs.create.node_disk import is_damage
from gridfs.create.source import Found, SourceTotals
from gridfs.manifest.meta import from_column, to_column
from gridfs.manifest.order import path_of, place_of
from gridfs.model import Kind, Problem

_PAGE_ROWS = 4096
_CACHE_KIB = 16 * 1024


def opened_journal(path: Path, *, on_clash: Callable[[bytes], None] | None = None) -> Journal:
    """As Journal; what lies at *path* and is no journal (any more) is replaced by a new one: it costs sending again."""
    try:
        return Journal(path, on_clash=on_clash)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return Journal(path, on_clash=on_clash)


class Journal:
    """The journal of one creation. Changes are kept by `commit`, which every step of the pipeline ends with."""

    def __init__(self, path: Path, *, on_clash: Callable[[bytes], None] | None = None) -> None:
        """Opens the journal at *path*, or begins it. *on_clash* is told paths that are both a directory and not one;
        without it the directory wins and the report says so."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open(on_clash)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, on_clash: Callable[[bytes], None] | None) -> None:
        # NORMAL: a kill loses nothing, and a power cut may lose the last commits but not the file.
        self._connection.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-{_CACHE_KIB}; {SCHEMA}"
        )
        self._on_clash = on_clash or self._report_clash
        self._scan = int(self.get("scan") or 0)
        self._writer = FoundWriter(self._connection, self._scan, self._on_clash)
        self._begin()
        # A full disk makes SQLite roll back, and what another thread still wrote after that (by itself, without a
        # transaction) may lie in an object whose row is gone and whose number the next object gets.
        pending = self._connection.execute(
            "SELECT number FROM object WHERE state <> ?"
            " UNION SELECT object FROM content WHERE object NOT IN (SELECT number FROM object)", (DURABLE,)
        )  # fmt: skip
        self.forget_objects([number for (number,) in pending])

    def close(self) -> None:
        """Ends without keeping what was not committed."""
        self._connection.close()

    def commit(self) -> None:
        """Keeps everything up to here."""
        self._connection.execute("COMMIT")
        self._begin()

    def get(self, key: str) -> str | None:
        """A value that `put` has kept."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str) -> None:
        """Keeps a value of the creation as a whole."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # What the source holds

    def begin_scan(self) -> None:
        """From now on the source tells what it holds; what it does not name again will be gone."""
        self._scan += 1
        self.put("scan", str(self._scan))
        self._writer = FoundWriter(self._connection, self._scan, self._on_clash)

    @property
    def found_files(self) -> int:
        """Files that this scan has found so far."""
        return self._writer.files

    @property
    def found_bytes(self) -> int:
        """Their sizes."""
        return self._writer.total_bytes

    def add(self, found: Found, content: int | None = None) -> None:
        """Listing.add; *content* when it is known already."""
        self._writer.add(found, content)

    def add_files(self, files: Sequence[Found]) -> None:
        """Listing.add_files."""
        self._writer.add_files(files)

    def add_problem(self, problem: Problem) -> None:
        """Listing.add_problem."""
        row = (self._scan, problem.reason, problem.name, to_column(problem.detail))
        self._connection.execute("INSERT INTO problem VALUES (?, ?, ?, ?)", row)

    def end_scan(self) -> None:
        """The source has told everything."""
        self._connection.execute("DELETE FROM found WHERE scan <> ?", (self._scan,))
        self._connection.execute("DELETE FROM problem WHERE scan <> ?", (self._scan,))
        self.commit()

    def find_named(self, path: bytes) -> tuple[Found, int | None] | None:
        """The file, with its content, or the symbolic link that this scan has found at *path*."""
        row = self._connection.execute(NAMED, (*place_of(path), self._scan)).fetchone()
        return None if row is None else (_found(row[:-1]), row[-1])

    def find_problem(self, path: bytes) -> Problem | None:
        """What this scan has reported of *path*, if anything."""
        row = self._connection.execute(
            "SELECT reason, name, detail FROM problem WHERE name = ? AND scan = ? LIMIT 1", (path, self._scan)
        ).fetchone()
        return None if row is None else Problem(row[0], row[1], from_column(row[2]))

    def earlier_sha256(self, found: Found) -> bytes | None:
        """The hash of the file that an earlier scan has found at the same path with the same size and mtime."""
        row = self._connection.execute(
            "SELECT sha256 FROM found JOIN content ON content.id = content"
            " WHERE directory = ? AND name = ? AND kind = 2 AND found.size = ? AND mtime_ns = ? AND scan <> ?",
            (*place_of(found.path), found.size, found.mtime_ns, self._scan),
        ).fetchone()
        return None if row is None else row[0]

    def has_entries(self) -> bool:
        """Whether there is anything below the root."""
        return self._connection.execute("SELECT 1 FROM found WHERE name <> x'' LIMIT 1").fetchone() is not None

    def drop(self, path: bytes, problem: Problem) -> None:
        """The version will not have this entry, for a reason that is reported."""
        self._connection.execute("DELETE FROM found WHERE directory = ? AND name = ?", place_of(path))
        self.add_problem(problem)

    def names_of(self, found: Found) -> list[Found]:
        """*found*, and the other names of the same generation of it: hard links."""
        if found.same_as is None:
            return [found]
        rows = self._connection.execute(NAMES_OF, (found.same_as,))
        return [_found(row) for row in rows.fetchall()]

    # What is to be read, and what has been

    def unread(self) -> Iterator[Found]:
        """Files whose content is not known yet, in the manifest's order; of hard links only the first.

        The journal may be written to meanwhile.
        """
        after: tuple[bytes, bytes] = (b"", b"")
        while page := self._connection.execute(UNREAD, (*after, _PAGE_ROWS)).fetchall():
            yield from map(_found, page)
            after = page[-1][:2]

    def totals(self, have_content: bool) -> SourceTotals:
        """Files with bytes whose content is known, or is not; hard links are counted as often as they are named."""
        files, total = self._connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM found WHERE kind = 2 AND size > 0"
            " AND (content IS NOT NULL) = ?", (have_content,)
        ).fetchone()  # fmt: skip
        return SourceTotals(files, total)

    def file_totals(self) -> SourceTotals:
        """All files that the version would have."""
        row = self._connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM found WHERE kind = 2").fetchone()
        return SourceTotals(*row)

    def set_content(self, path: bytes, content: int) -> None:
        """The file at *path* has this content."""
        self._connection.execute(
            "UPDATE found SET content = ? WHERE directory = ? AND name = ?", (content, *place_of(path))
        )

    def share_hard_links(self) -> None:
        """Gives hard links the content of the one that was read."""
        self._connection.execute(
            "UPDATE found SET content = (SELECT other.content FROM found AS other WHERE other.same_as = found.same_as"
            " AND other.content IS NOT NULL LIMIT 1) WHERE same_as IS NOT NULL AND content IS NULL AND size > 0"
        )

    def index_contents(self) -> None:
        """To be called before `find_content` and `knows_size`, which are slow without it."""
        for statement in INDEX_CONTENTS.strip().splitlines():
            self._connection.execute(statement)

    def find_content(self, sha256: bytes) -> int | None:
        """Content with this hash."""
        row = self._connection.execute("SELECT id FROM content WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone()
        return None if row is None else row[0]

    def knows_size(self, size: int) -> bool:
        """Whether there is any content of this size (else a hash is certain to be new)."""
        return self._connection.execute("SELECT 1 FROM content WHERE size = ? LIMIT 1", (size,)).fetchone() is not None

    def add_content(self, sha256: bytes, size: int, number: int, offset: int) -> int:
        """Content that lies at *offset* of the object *number*; its id."""
        cursor = self._connection.execute(
            "INSERT INTO content(sha256, size, object, offset) VALUES (?, ?, ?, ?)", (sha256, size, number, offset)
        )
        return int(cursor.lastrowid or 0)

    def begin_object(self, key: str) -> int:
        """An object that is about to be uploaded; its number."""
        cursor = self._connection.execute(
            "INSERT INTO object(key, size, checksums, state) VALUES (?, 0, x'', ?)", (key, PENDING)
        )
        return int(cursor.lastrowid or 0)

    def finish_object(self, number: int, size_bytes: int, checksums: bytes) -> None:
        """The store has the object; this is committed."""
        self._connection.execute(
            "UPDATE object SET size = ?, checksums = ?, state = ? WHERE number = ?",
            (size_bytes, checksums, DURABLE, number),
        )
        self.commit()

    def has_durable(self) -> bool:
        """Whether anything was uploaded."""
        return self._connection.execute("SELECT 1 FROM object WHERE state = 1 LIMIT 1").fetchone() is not None

    def object(self, number: int) -> StoredObject:
        """A durable object."""
        return StoredObject(*self._connection.execute(
            "SELECT key, size, checksums FROM object WHERE number = ? AND state <> ?", (number, PENDING)
        ).fetchone())  # fmt: skip

    def rows(self) -> Iterator[FoundRow]:
        """Everything, in the manifest's order, the root first."""
        root = self._connection.execute(ROWS.replace("> (?, ?)", "= (?, ?)"), (b"", b"", 1)).fetchall()
        yield from map(FoundRow._make, root)
        after: tuple[bytes, bytes] = (b"", b"")
        while page := self._connection.execute(ROWS, (*after, _PAGE_ROWS)).fetchall():
            yield from map(FoundRow._make, page)
            after = page[-1][:2]

    # What the version before holds, and what turned out to be gone

    def add_base_object(self, key: str, size_bytes: int, checksums: bytes) -> int:
        """An object of the version before; its number. One that this creation has put keeps its own: a commit whose
        answer was lost leaves a journal whose objects are the version's."""
        cursor = self._connection.execute(
            "INSERT INTO object(key, size, checksums, state) VALUES (?, ?, ?, ?)"
            " ON CONFLICT(key) DO UPDATE SET size = excluded.size RETURNING number",
            (key, size_bytes, checksums, BASE),
        )
        return int(cursor.fetchone()[0])

    def add_base_files(self, files: Sequence[BaseFile], *, by_path: bool) -> None:
        """Contents of the version before; *by_path*: given to the file of the same path, size and mtime."""
        execute = self._connection.execute
        first = execute("SELECT coalesce(max(id), 0) + 1 FROM content").fetchone()[0]
        self._connection.executemany(
            "INSERT INTO content VALUES (?, ?, ?, ?, ?)",
            [(content, file.sha256, file.size, file.object, file.offset) for content, file in enumerate(files, first)],
        )
        if by_path:
            self._connection.executemany(
                "UPDATE found SET content = ? WHERE directory = ? AND name = ? AND kind = 2 AND size = ?"
                " AND mtime_ns = ? AND content IS NULL",
                [
                    (content, *place_of(file.path), file.size, file.mtime_ns)
                    for content, file in enumerate(files, first)
                ],
            )

    def durable_objects(self) -> list[tuple[int, str, int]]:
        """Number, key and size of what this creation has put."""
        return self._objects(DURABLE)

    def base_objects(self) -> list[tuple[int, str, int]]:
        """The same of what the version before holds, but for what this creation has put itself."""
        return self._objects(BASE)

    def _objects(self, state: int) -> list[tuple[int, str, int]]:
        return self._connection.execute("SELECT number, key, size FROM object WHERE state = ?", (state,)).fetchall()

    def forget_contents_of(self, objects: Collection[int]) -> None:
        """No file has its content in these objects any more, and no file will be given it."""
        if not objects:
            return
        execute = self._connection.execute
        execute("DELETE FROM gone")
        self._connection.executemany("INSERT INTO gone VALUES (?)", [(number,) for number in objects])
        execute(
            "UPDATE found SET content = NULL WHERE content IN"
            " (SELECT id FROM content WHERE object IN (SELECT object FROM gone))"
        )
        execute("DELETE FROM content WHERE object IN (SELECT object FROM gone)")

    def forget_objects(self, objects: Collection[int]) -> None:
        """These objects are gone, or will never be; this is committed."""
        self.forget_contents_of(objects)
        self._connection.executemany("DELETE FROM object WHERE number = ?", [(number,) for number in objects])
        self.commit()

    def problems(self) -> Iterator[Problem]:
        """The report."""
        for reason, name, detail in self._connection.execute("SELECT reason, name, detail FROM problem ORDER BY rowid"):
            yield Problem(reason, name, from_column(detail))

    def problem_counts(self) -> list[tuple[str, int]]:
        """How often each reason is in the report."""
        rows = self._connection.execute("SELECT reason, count(*) FROM problem GROUP BY reason ORDER BY reason")
        return rows.fetchall()

    def _begin(self) -> None:
        self._connection.execute("BEGIN")

    def _report_clash(self, path: bytes) -> None:
        self.add_problem(Problem("shadowed", path, "a directory has the same name and is what the version has"))


def _found(row: tuple[Any, ...]) -> Found:
    """Of the columns of FOUND."""
    directory, name, kind, *rest = row
    return Found(path_of(directory, name), Kind(kind), *rest)
