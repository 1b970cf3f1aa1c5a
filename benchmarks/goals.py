"""The figures to reach: one table for each issue that names some (goal.py says what a goal is)."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench import BARE, LOCAL
from benchmarks.goal import Goal, Value, constant, figure, plus, total
from benchmarks.model import Record

RCLONES = ("rclone, cache full", "rclone, cache off")
RIVALS = (*RCLONES, "s3fs")
LITDATA = ("litData, cache on", "litData, cache off")
GRIDFS = "gridfs"
PREFETCH_OFF = "gridfs, prefetch none"
NO_COPY = "gridfs, no-copy"


def _warm(metric: str, subject: str) -> Value:
    return figure("a", "warm", subject, f"{metric} p50")


def _sequential(setting: str, subjects: str | Sequence[str]) -> Value:
    return figure("e", setting, subjects, "sequential, reads of 1 MiB")


FIRST, SECOND = "first epoch", "second epoch"


def goals_of_the_main_job(many: str) -> list[Goal]:
    """Figures of the first issue; *many* is the number of entries of the large tree, as in the metrics' names."""
    return [
        Goal("a", "warm, os.open()+readv()+close()", "at most", 1.3, _warm("readv", GRIDFS), _warm("readv", LOCAL)),
        Goal("a", "warm, os.open()+close()", "at most", 1.6, _warm("open+close", GRIDFS), _warm("open+close", LOCAL)),
        Goal("a", "warm, Python's open().read()", "at most", 1.6, _warm("builtin", GRIDFS), _warm("builtin", LOCAL)),
        Goal(
            "h",
            "`ls -l` of 2,000 files, warm",
            "at most",
            1.5,
            figure("h", "rgw", GRIDFS, "ls -l of 2,000 files, warm"),
            figure("h", "rgw", LOCAL, "ls -l of 2,000 files, warm"),
        ),
        Goal(
            "i",
            f"mount of {many} entries, manifest on the node, to the first byte (ready: 1 s)",
            "at most",
            1.0,
            figure("i", "rgw", GRIDFS, f"mount to first byte, {many} entries, manifest on the node"),
            constant(1.0),
            "s",
        ),
        Goal(
            "h",
            f"anonymous memory of the daemon after `find` over {many} entries",
            "at most",
            150,
            figure("h", "rgw", GRIDFS, f"daemon's anonymous memory after find of {many}"),
            constant(1.0),
            "MiB",
        ),
        Goal(
            "j",
            "creation in a directory store beside `cp -r`, both with `sync`",
            "at most",
            2.0,
            figure("j", "local", GRIDFS, "creation of 10,000 files and sync"),
            figure("j", "local", "cp -r", "creation of 10,000 files and sync"),
        ),
    ]


def goals_of_the_read_path(many: str) -> list[Goal]:
    """The table of the issue about the read path."""
    c_rgw, c_limited = figure("c", "rgw", GRIDFS, FIRST), figure("c", "limited", GRIDFS, FIRST)
    e_rgw = _sequential("rgw", GRIDFS)
    return [
        Goal("a", "warm, os.open()+readv()", "at most", 1.1, _warm("readv", GRIDFS), _warm("readv", LOCAL)),
        Goal("a", "warm, Python's open().read()", "at most", 1.3, _warm("builtin", GRIDFS), _warm("builtin", LOCAL)),
        Goal("a", "warm, open+close", "at most", 1.5, _warm("open+close", GRIDFS), _warm("open+close", LOCAL)),
        Goal(
            "a",
            "cold, nginx: bare GET + 0.5 ms, p50",
            "at most",
            1.0,
            figure("a", "nginx", PREFETCH_OFF, "cold p50"),
            plus(figure("a", "nginx", BARE, "cold p50"), 500.0),
        ),
        Goal(
            "a",
            "cold, RGW: bare GET, p50",
            "at most",
            1.2,
            figure("a", "rgw", PREFETCH_OFF, "cold p50"),
            figure("a", "rgw", BARE, "cold p50"),
        ),
        Goal(
            "b",
            "tree order: rclone's best",
            "at least",
            10,
            figure("b", "rgw", GRIDFS, FIRST),
            figure("b", "rgw", RCLONES, FIRST),
        ),
        Goal(
            "b",
            "tree order: bare client in parts of 8 MiB",
            "at least",
            0.5,
            figure("b", "rgw", GRIDFS, f"{FIRST}, bytes"),
            figure("b", "rgw", "obstore, parts of 8 MiB", f"{FIRST}, bytes"),
        ),
        Goal("c", "shuffled, 8 readers: rclone's best", "at least", 5, c_rgw, figure("c", "rgw", RCLONES, FIRST)),
        Goal("c", "shuffled, 8 readers: bare client", "at least", 2, c_rgw, figure("c", "rgw", BARE, FIRST)),
        Goal(
            "c", "the same, limited: rclone's best", "at least", 10, c_limited, figure("c", "limited", RCLONES, FIRST)
        ),
        Goal("c", "the same, limited: bare client", "at least", 4, c_limited, figure("c", "limited", BARE, FIRST)),
        Goal(
            "c2",
            "cache of a quarter: bytes fetched for each byte",
            "at most",
            3,
            figure("c2", "counted", GRIDFS, "bytes fetched for each byte read"),
            constant(1.0),
        ),
        Goal(
            "c2",
            "cache of a quarter: files/s beside no prefetch",
            "at least",
            1,
            figure("c2", "counted", GRIDFS, FIRST),
            figure("c2", "counted", PREFETCH_OFF, FIRST),
        ),
        Goal(
            "d",
            "second epoch: local disk",
            "at least",
            0.9,
            figure("d", "rgw", GRIDFS, SECOND),
            figure("d", "rgw", LOCAL, SECOND),
        ),
        Goal(
            "d2",
            "after a restart: local disk, cold",
            "at least",
            0.5,
            figure("d2", "counted", GRIDFS, "epoch after a restart"),
            figure("d2", "counted", LOCAL, "epoch after a restart"),
        ),
        Goal(
            "d2", "after a restart: GETs", "at most", 0, figure("d2", "counted", GRIDFS, "GETs"), constant(1.0), "GETs"
        ),
        Goal("e", "sequential: bare client", "at least", 0.7, e_rgw, figure("e", "rgw", BARE, "sequential")),
        Goal("e", "sequential: best rival", "at least", 3, e_rgw, _sequential("rgw", RIVALS)),
        Goal(
            "e",
            "sequential, limited: one connection",
            "at least",
            5,
            _sequential("limited", GRIDFS),
            figure("e", "limited", "obstore, one connection", "sequential"),
        ),
        Goal(
            "f",
            "random 256 KiB: bare client",
            "at least",
            0.8,
            figure("f", "rgw", GRIDFS, "preads of 256 KiB"),
            figure("f", "rgw", BARE, "preads of 256 KiB"),
        ),
        Goal(
            "g",
            "8 interleaved processes: (e)",
            "at least",
            0.8,
            figure("g", "rgw", GRIDFS, "8 processes together"),
            e_rgw,
        ),
        Goal(
            "h",
            f"`find` over {many} entries, cold",
            "at most",
            20,
            figure("h", "rgw", GRIDFS, f"find with stat of {many} entries, cold"),
            constant(1.0),
            "s",
        ),
        Goal(
            "i",
            f"mount to first byte, {many} entries, manifest not on the node: 1.5 s and its transfer",
            "at most",
            1.0,
            figure("i", "rgw", GRIDFS, f"mount to first byte, {many} entries, manifest not on the node"),
            total(constant(1.5), figure("i", "rgw", GRIDFS, "transfer of its manifest alone")),
        ),
        Goal("k", "peak anonymous memory: budget of 1 GiB and 150 MiB", "at most", 1174, _peak, constant(1.0), "MiB"),
        Goal(
            "l",
            "DataLoader, first epoch: litData's best",
            "at least",
            2,
            _images(FIRST, (GRIDFS,)),
            _images(FIRST, LITDATA),
        ),
        Goal(
            "l",
            "DataLoader, second epoch: local folder",
            "at least",
            0.9,
            _images(SECOND, (GRIDFS,)),
            _images(SECOND, (LOCAL,)),
        ),
    ]


def _peak(record: Record) -> float | None:
    """The highest of all workloads."""
    peaks = [f.high for key, f in record.figures.items() if key.workload == "k" and key.subject.startswith(GRIDFS)]
    return max(peaks, default=None)


def _images(epoch: str, subjects: Sequence[str]) -> Value:
    """The better of no workers and two: whoever trains takes that."""

    def value(record: Record) -> float | None:
        found = [figure("l", "rgw", subjects, f"{epoch}, {workers} workers")(record) for workers in (0, 2)]
        return max((one for one in found if one is not None), default=None)

    return value


def goals_of_buckets() -> list[Goal]:
    """The speed of a no-copy version, from the issue about public buckets; references are those of (c) and (e)."""
    return [goal for setting in ("rgw", "limited") for goal in _goals_of_no_copy(setting)]


def _goals_of_no_copy(setting: str) -> list[Goal]:
    where = "no-copy" if setting == "rgw" else f"no-copy, {setting}"
    shuffled = figure("m", setting, NO_COPY, f"(c) {FIRST}")
    sequential = figure("m", setting, NO_COPY, "(e) sequential, reads of 1 MiB")
    bare, rclone = figure("c", setting, BARE, FIRST), figure("c", setting, RCLONES, FIRST)
    return [
        Goal("m", f"{where}, shuffled, 8 readers: bare client", "at least", 0.8, shuffled, bare),
        Goal("m", f"{where}, shuffled, 8 readers: rclone's best", "at least", 1.5, shuffled, rclone),
        Goal(
            "m",
            f"{where}, sequential: bare client",
            "at least",
            0.7,
            sequential,
            figure("e", setting, BARE, "sequential"),
        ),
    ]


def goals_of_creation(small: str, large: str) -> list[Goal]:
    """Creation in a bucket, from the issue about archives; *small* and *large* as in the metrics' names."""
    return [
        Goal(
            "j",
            f"creation of {small}: rclone copy",
            "at least",
            2,
            figure("j", "rgw", GRIDFS, f"creation of {small}, bytes"),
            figure("j", "rgw", "rclone copy", f"creation of {small}, bytes"),
        ),
        Goal(
            "j",
            f"creation of {large}: bare client",
            "at least",
            0.8,
            figure("j", "rgw", GRIDFS, f"creation of {large}, bytes"),
            figure("j", "rgw", BARE, f"creation of {large}, bytes"),
        ),
    ]
