"""What a training script sees: a PyTorch DataLoader over JPEG files, shuffled, for several epochs.

`root` is a directory to open files in, or `bucket_url` what litData's StreamingRawDataset reads. Images are not
decoded: that costs 3 ms each and is the same for everyone. Each image's length is checked in the loop; every byte in
an epoch of its own after the measured ones.
"""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.jobs.job import Job, main

BATCH = 32


class Folder(Dataset[tuple[int, bytes]]):
    """As torchvision's ImageFolder, with its plain open(), without the decoding."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, bytes]:
        with open(self.paths[index], "rb") as file:
            return index, file.read()


def litdata_dataset(job: Job) -> Any:
    """litData lists by fsspec and reads by boto3's settings, which agree on nothing but the environment."""
    from litdata import StreamingRawDataset
    from litdata.streaming import downloader

    os.environ |= {
        "AWS_ENDPOINT_URL": job["endpoint"],
        "AWS_ACCESS_KEY_ID": job["access_key"],
        "AWS_SECRET_ACCESS_KEY": job["secret_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # it reads from https:// only, and asks nobody
    return StreamingRawDataset(job["bucket_url"], cache_dir=job["cache_dir"], cache_files=job["cache"])


def run(job: Job) -> Job:
    torch.manual_seed(3)
    expected = {name: _read_aside(os.path.join(job["source"], name)) for name in job["names"]}
    sizes = sorted(len(data) for data in expected.values())
    if "root" in job:
        dataset: Any = Folder([os.path.join(job["root"], name) for name in job["names"]])
    else:
        dataset = litdata_dataset(job)
    if len(dataset) != len(job["names"]):
        raise RuntimeError(f"{len(dataset)} images instead of {len(job['names'])}")
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        num_workers=job["workers"],
        persistent_workers=job["workers"] > 0,
        collate_fn=list,
    )
    rates = []
    for _ in range(job["epochs"]):
        seen = []
        start = time.perf_counter()
        for batch in loader:
            seen += [len(_bytes_of(item)) for item in batch]
        rates.append(len(seen) / (time.perf_counter() - start))
        if sorted(seen) != sizes:
            raise RuntimeError("images of other lengths than were written")
    contents = {_bytes_of(item) for batch in loader for item in batch}
    if contents != set(expected.values()):
        raise RuntimeError("images with other bytes than were written")
    return {"images_per_s": rates}


def _read_aside(path: str) -> bytes:
    """A file's bytes, which leave the page cache again.

    The source is also what the local folder is measured by. Its first epoch shall be as cold as everyone's; and its
    second their second, since the kernel moves a page to its active list when that is read for the second time, which
    costs 10 us an image.
    """
    with open(path, "rb") as file:
        data = file.read()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return data


def _bytes_of(item: Any) -> bytes:
    """An item of either dataset: (index, bytes) or bytes."""
    data = item[1] if isinstance(item, tuple) else item
    return data if isinstance(data, bytes) else bytes(data)


if __name__ == "__main__":
    main(run)
