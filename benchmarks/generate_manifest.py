"""A manifest of any number of entries, for benchmarks of what depends on the size of the tree and not on its bytes.

    python benchmarks/generate_manifest.py 1280000 /tmp/large.sqlite

The tree is that of ImageNet: directories of 1,280 files of 110 KiB, packed in tree order into objects of about 64 MiB.
The objects exist in no store; reading them is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

from gridfs.config import BLOCK_SIZE_BYTES, PACK_SIZE_BYTES
from gridfs.manifest.schema import ManifestInfo, ManifestSettings
from gridfs.manifest.writer import ManifestWriter
from gridfs.model import Kind, Mode

FILES_IN_DIRECTORY = 1280
FILE_SIZE_BYTES = 110 << 10
FILES_IN_PACK = PACK_SIZE_BYTES // FILE_SIZE_BYTES
MTIME_NS = 1_700_000_000_000_000_000


def generate(path: Path, entry_count: int) -> ManifestInfo:
    """Writes a manifest of about *entry_count* entries (whole directories) to *path*, which must not exist."""
    settings = ManifestSettings(BLOCK_SIZE_BYTES, Mode.COPY, "/data/generated", "generate_manifest.py")
    directory_count = max(1, round(entry_count / (FILES_IN_DIRECTORY + 1)))
    directories = [b"n%08d" % number for number in range(directory_count)]
    pack = files = 0
    with ManifestWriter(path, settings) as writer:
        for number, directory in enumerate(directories):
            writer.add_entry(b"", directory, Kind.DIRECTORY, 0o755, 0, MTIME_NS + number)
        for directory in directories:
            for number in range(FILES_IN_DIRECTORY):
                place = files % FILES_IN_PACK
                if place == 0:
                    size_bytes = min(FILES_IN_PACK, directory_count * FILES_IN_DIRECTORY - files) * FILE_SIZE_BYTES
                    checksums = bytes(8 * -(-size_bytes // BLOCK_SIZE_BYTES))
                    pack = writer.add_object(hashlib.md5(b"%d" % files).hexdigest(), size_bytes, checksums)
                writer.add_entry(
                    directory,
                    b"%s_%05d.JPEG" % (directory, number),
                    Kind.FILE,
                    0o644,
                    FILE_SIZE_BYTES,
                    MTIME_NS + files,
                    object=pack,
                    offset=place * FILE_SIZE_BYTES,
                    sha256=hashlib.sha256(b"%d" % files).digest(),
                )
                files += 1
        return writer.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", type=int)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    info = generate(arguments.path, arguments.entries)
    took_s = time.perf_counter() - started_s
    size_bytes = arguments.path.stat().st_size
    print(
        f"{info.entry_count} entries, {size_bytes} bytes, {took_s:.1f} s, {took_s / info.entry_count * 1e6:.1f} us each"
    )


if __name__ == "__main__":
    main()
