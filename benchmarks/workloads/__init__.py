"""The workloads by their letters, in the order in which they are run, each with the reason why it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.workloads import creation, epochs, large, latency, names, nocopy, training

if TYPE_CHECKING:
    from benchmarks.bench import Bench


@dataclass(frozen=True, slots=True)
class Workload:
    """One of them."""

    letter: str
    title: str
    reason: str
    run: Callable[[Bench], None]


WORKLOADS = (
    Workload(
        "a",
        "open() to bytes of one small file",
        "What a program waits for at each file, and what the first batch of a training waits for. 110 KiB is the mean "
        "of ImageNet. Python's own open().read() is apart, because it asks more of the file system than os.open().",
        latency.run,
    ),
    Workload(
        "b",
        "an epoch in tree order",
        "What cp, tar, a first look at a dataset and an unshuffled validation do: each directory is listed, then its "
        "files are read.",
        epochs.tree_order,
    ),
    Workload(
        "c",
        "a shuffled epoch by 8 readers, and (d) a second one",
        "Training: the first epoch pays for the network, all others run from what the node has kept.",
        epochs.shuffled,
    ),
    Workload(
        "c2",
        "a shuffled epoch with a cache of a quarter of the data",
        "A cache that is too small must not make reading dearer than no cache: fetched bytes and requests are counted "
        "by a proxy.",
        epochs.small_cache,
    ),
    Workload(
        "d2",
        "an epoch after the daemon was restarted and the page cache dropped",
        "The next job on the node.",
        epochs.restarted,
    ),
    Workload("e", "one large file from start to end", "Checkpoints, archives, video.", large.sequential),
    Workload("f", "random reads in a large file", "Parquet and safetensors: footers, columns, tensors.", large.random),
    Workload("g", "8 processes read one file interleaved", "Workers that share a shard.", large.interleaved),
    Workload("h", "names: find, stat, ls", "Every training begins by listing its dataset.", names.walk),
    Workload("i", "mount to first byte", "A job's start, and a reason to mount for each job.", names.mount),
    Workload("j", "creation", "Datasets must get in first.", creation.measure),
    Workload(
        "l",
        "a PyTorch DataLoader over JPEG files",
        "What a training script sees, beside the loader that its authors offer instead of a mount.",
        training.run,
    ),
    Workload("m", "a, c and e on a no-copy version", "The same over the objects of a bucket as they lie.", nocopy.run),
)
