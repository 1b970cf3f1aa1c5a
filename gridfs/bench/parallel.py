"""Files read by several processes at once, as the workers of a data loader do.

Processes and not threads: what is measured is the file system, and not Python's lock. Each of *n* readers takes every
n-th file of the order; all start together, and the clock stops when the last has finished or the time is up.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridfs.bench.figures import Rate
from gridfs.bench.measure import READ_BYTES, whole_file
from gridfs.bench.sample import SampleFile

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier


START_TIMEOUT_S = 60.0
"""A reader that waits longer for the others to start gives up, and the measurement fails instead of hanging."""


def shuffled(files: Sequence[SampleFile], seed: int) -> list[SampleFile]:
    """*files* in an order that is random and always the same."""
    order = list(files)
    random.Random(seed).shuffle(order)
    return order


def _reader(files: Sequence[SampleFile], limit_s: float, barrier: Barrier, results: Connection) -> None:
    buffer, count, total = bytearray(READ_BYTES), 0, 0
    try:
        barrier.wait(START_TIMEOUT_S)
        start = time.monotonic()
        for file in files:
            total += whole_file(file.path, buffer)
            count += 1
            if time.monotonic() - start > limit_s:
                break
        results.send((count, total, start, time.monotonic()))
    except OSError as error:
        results.send(error)
    finally:
        results.close()


def read_by(readers: int, access: str, state: str, files: Sequence[SampleFile], limit_s: float) -> Rate:
    """Reads *files* whole by *readers* processes. Raises OSError when a reader died."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(readers)
    started = []
    for number in range(readers):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_reader, args=(files[number::readers], limit_s, barrier, sender), daemon=True)
        process.start()
        sender.close()
        started.append((process, receiver))
    outcomes: list[tuple[int, int, float, float]] = []
    try:
        for _process, receiver in started:
            outcome = receiver.recv()
            if isinstance(outcome, OSError):
                raise outcome
            outcomes.append(outcome)
    except EOFError as error:
        raise OSError("a reader process ended before it had read its files") from error
    finally:
        for process, receiver in started:
            process.terminate()
            process.join()
            receiver.close()
    elapsed = max(stop for *_, stop in outcomes) - min(start for _, _, start, _ in outcomes)
    return Rate(access, state, readers, sum(n for n, *_ in outcomes), sum(b for _, b, *_ in outcomes), elapsed)
