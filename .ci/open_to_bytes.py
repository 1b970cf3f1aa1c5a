"""How long from open() to the bytes: `open_to_bytes.py MOUNT SOURCE`, the same files in a mount and in its source.

The first pass over the mount is cold for the kernel (the daemon has to answer), the second is warm; the source has been
read already. What is read in the mount is compared with the source.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

FILES = 1000
LARGEST_BYTES = 1 << 20


def files(root: Path) -> Iterator[Path]:
    """Up to FILES regular files, relative to *root*, in the order in which a walk meets them."""
    count = 0
    for directory, directories, names in os.walk(root):
        directories.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_BYTES:
                yield path.relative_to(root)
                count += 1
                if count == FILES:
                    return


def read_all(root: Path, names: list[Path]) -> tuple[list[float], list[bytes]]:
    """Seconds from before open() to after the last byte, and the bytes, of each file."""
    buffer = bytearray(LARGEST_BYTES)
    seconds, contents = [], []
    for name in names:
        path = root / name
        start = time.perf_counter()
        descriptor = os.open(path, os.O_RDONLY)
        size = os.readv(descriptor, [buffer])
        os.close(descriptor)
        seconds.append(time.perf_counter() - start)
        contents.append(bytes(buffer[:size]))
    return seconds, contents


def line(title: str, seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"{title:<14}" + "".join(f"{cuts[p - 1] * 1e6:>10.0f} us" for p in (50, 90, 99))


def main() -> int:
    mount, source = Path(sys.argv[1]), Path(sys.argv[2])
    names = list(files(mount))
    _, expected = read_all(source, names)
    local, _ = read_all(source, names)
    cold, first = read_all(mount, names)
    warm, second = read_all(mount, names)
    size_bytes = sum(map(len, expected))
    print(f"open() to bytes, {len(names)} files, {size_bytes / 1e6:.1f} MB in all")
    print(f"{'':<14}" + "".join(f"{name:>13}" for name in ("median", "90 %", "99 %")))
    print(line("mount, cold", cold), line("mount, warm", warm), line("local disk", local), sep="\n")
    if expected == first == second:
        print("every byte equals the source's")
        return 0
    print("the mount's bytes differ from the source's")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
