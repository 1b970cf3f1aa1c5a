"""What it costs and saves to begin a file of a pack at a block boundary, for several limits of the gap.

    python benchmarks/pack_alignment.py            (some seconds; pure arithmetic, so the figures repeat exactly)

For files of each distribution: the bytes that one cold random read of each file fetches, as a multiple of the files'
bytes (blocks of 128 KiB are fetched whole), and the gaps as a share of the files' bytes. See docs/decisions/packing.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from gridfs.create.pack import blocks_touched

BLOCK_SIZE_BYTES = 128 << 10
FILES = 20_000
LIMITS = (0.0, 1 / 8, 1 / 5, 1 / 4, 1 / 2)


def distributions() -> dict[str, list[int]]:
    random = Random(1)

    def log_normal(mu: float, sigma: float) -> list[int]:
        return [max(1, int(random.lognormvariate(mu, sigma) * 1024)) for _ in range(FILES)]

    return {
        "110 KiB": [110 << 10] * FILES,
        "70 KiB": [70 << 10] * FILES,
        "150 KiB": [150 << 10] * FILES,
        "log-normal, about 110 KiB, sigma 0.5": log_normal(4.58, 0.5),
        "log-normal, about 50 KiB, sigma 1": log_normal(3.4, 1.0),
        "uniform, 200 to 600 KiB": [random.randint(200 << 10, 600 << 10) for _ in range(FILES)],
    }


def cost(sizes: list[int], limit: float) -> tuple[float, float]:
    """Fetched bytes for each byte, and gaps for each byte."""
    end = blocks = gaps = 0
    for size in sizes:
        gap = -end % BLOCK_SIZE_BYTES
        aligned, as_it_is = (blocks_touched(start, size, BLOCK_SIZE_BYTES) for start in (end + gap, end))
        if aligned < as_it_is and gap <= size * limit:
            end, gaps = end + gap, gaps + gap
        blocks += blocks_touched(end, size, BLOCK_SIZE_BYTES)
        end += size
    return blocks * BLOCK_SIZE_BYTES / sum(sizes), gaps / sum(sizes)


def main() -> int:
    print(f"{'gap at most, of the file':38}" + "".join(f"{limit:>16.3f}" for limit in LIMITS))
    for name, sizes in distributions().items():
        costs = [cost(sizes, limit) for limit in LIMITS]
        print(f"{name:38}" + "".join(f"{f'x{fetched:.2f} +{gaps:.1%}':>16}" for fetched, gaps in costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
