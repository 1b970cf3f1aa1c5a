"""Sizes, times and tables as people read them, and what can't garble a line."""

from __future__ import annotations

import pytest

from gridfs.cli.failures import one_line
from gridfs.cli.output import Column, print_table, shown_count, shown_path, shown_size, shown_time

SIZES = {
    0: "0 B",
    1023: "1023 B",
    1024: "1.0 KiB",
    102_300: "99.9 KiB",
    102_400: "100 KiB",
    1024 * 999: "999 KiB",
    1024 * 1000: "1.0 MiB",
    5 << 30: "5.0 GiB",
    (3 << 50) + (1 << 49): "3.5 PiB",
    2000 << 50: "2000 PiB",
}


@pytest.mark.parametrize("size_bytes", SIZES)
def test_sizes(size_bytes):
    assert shown_size(size_bytes) == SIZES[size_bytes]


def test_counts():
    assert [shown_count(n, "file") for n in (0, 1, 20_310)] == ["0 files", "1 file", "20,310 files"]
    assert shown_count(2, "directory", "directories") == "2 directories"


def test_times():
    assert shown_time("2026-11-22T12:47:28.990937Z") == "2026-11-22 12:47"


def test_names_that_would_garble_a_line():
    assert one_line("a\nb\x1b[31m\udcff ü") == "a\\nb\\x1b[31m\\udcff ü"
    assert shown_path(b"caf\xe9/\xc3\xbc") == "caf\\xe9/ü"


def test_a_plain_table_is_aligned(capsys):
    print_table(
        [Column("Name"), Column("Size", right=True), Column("Status")], [["a", "1 B", "x"], ["longer", "10 MiB", ""]]
    )
    assert capsys.readouterr().out == (
        "Name      Size  Status\n"
        "a          1 B  x\n"
        "longer  10 MiB\n"
    )  # fmt: skip


def test_a_table_without_rows(capsys):
    print_table([Column("Name"), Column("Size", right=True)], [])
    assert capsys.readouterr().out == "Name  Size\n"
