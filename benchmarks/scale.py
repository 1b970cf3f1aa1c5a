"""How much is read: the sizes of the issue, and those of a run that only shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts and sizes of one run."""

    file_bytes: int = 110 * KIB
    """ImageNet's mean."""
    latency_files: int = 2000
    latency_reads: int = 250
    """Cold reads of (a), each of another file."""
    epoch_files: int = 5000
    big_bytes: int = 2048 * MIB
    random_reads: int = 200
    listed_entries: int = 100_000
    many_entries: int = 1_280_000
    created_files: int = 10_000
    images: int = 3000
    image_bytes: int = 100 * KIB
    rounds: int = 3
    slow_rounds: int = 2
    """Of workloads whose single pass takes many seconds."""
    warm_rounds: int = 5
    """Of passes that take milliseconds."""
    again_passes: int = 8
    """Of (d), in each round: they take a tenth of a second, and single ones differ by half."""
    pass_s: float = 8.0
    """A pass over files ends after this, and its rate is of what was read: rivals take 40 s for our 2."""
    server_gib: int = 12
    ceiling_bytes: int = 64 * MIB
    """What the servers are asked for in all when their ceilings are found, four times over."""
    shares_server: bool = False
    """All creators of (j) store on the server of the run, which must hold it all."""
    drops_caches: bool = True
    """Of the whole machine; without it nothing is cold, and a run takes half the time."""


FULL = Scale()
QUICK = Scale(
    latency_files=40,
    latency_reads=10,
    epoch_files=60,
    big_bytes=16 * MIB,
    random_reads=5,
    listed_entries=300,
    many_entries=1000,
    created_files=50,
    images=40,
    rounds=1,
    slow_rounds=1,
    warm_rounds=1,
    again_passes=2,
    pass_s=3.0,
    server_gib=2,
    ceiling_bytes=4 * MIB,
    shares_server=True,
    drops_caches=False,
)
