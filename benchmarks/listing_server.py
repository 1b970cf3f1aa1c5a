"""An S3 server that can do nothing but list, as fast as a server can: for measuring listers and not the server.

    python -m benchmarks.listing_server NAME COUNT [NAME COUNT]... [--first-byte-ms 15]

Ceph RGW needs 40 ms of CPU for a page of 1,000 keys; on two cores that is what every lister would show. Here a page is
a join of prepared pieces (0.3 ms), sent after the given latency, as S3's own pages come. Each NAME is a shape of names
(benchmarks/listing.py) and a prefix. It prints its port and ends with its input. ListObjectsV2 with prefix, delimiter,
start-after, continuation-token and max-keys; the same for version 1 with marker.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from benchmarks.listing_names import names

ITEM = (
    "<Contents><Key>{}</Key><LastModified>2026-11-22T10:00:00.000Z</LastModified>"
    "<ETag>&quot;9dd4e461268c8034f5c8564e155c67a6&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>bench</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{}</MaxKeys><EncodingType>url</EncodingType>"
    "<IsTruncated>{}</IsTruncated>{}{}{}</ListBucketResult>"
)


class Bucket:
    """Sorted keys and, for each, its piece of a page."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.items = [ITEM.format(quote(key)) for key in self.keys]

    def has(self, key: str) -> bool:
        index = bisect_left(self.keys, key)
        return index < len(self.keys) and self.keys[index] == key

    def page(self, query: dict[str, str]) -> bytes:
        """The answer to one request."""
        prefix, most = query.get("prefix", ""), int(query.get("max-keys", 1000))
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker") or ""
        start = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after))
        stop = bisect_left(self.keys, prefix + "\U0010ffff")
        if query.get("delimiter"):
            return self._directories(prefix, query["delimiter"], start, stop, most, after)
        end = min(start + most, stop)
        return self._format(prefix, most, end < stop, self.items[start:end], [], self.keys[end - 1] if end else "")

    def _directories(self, prefix: str, delimiter: str, start: int, stop: int, most: int, after: str) -> bytes:
        items: list[str] = []
        found: list[str] = []
        last = ""
        while start < stop and len(items) + len(found) < most:
            head, slash, _ = self.keys[start][len(prefix) :].partition(delimiter)
            if slash:
                last = prefix + head + delimiter
                if last != after:
                    found.append(last)
                start = bisect_left(self.keys, last[:-1] + chr(ord(delimiter) + 1), start)
            else:
                last = self.keys[start]
                items.append(self.items[start])
                start += 1
        return self._format(prefix, most, start < stop, items, found, last)

    def _format(
        self, prefix: str, most: int, truncated: bool, items: list[str], directories: list[str], last: str
    ) -> bytes:
        next_page = ""
        if truncated:
            next_page = f"<NextContinuationToken>{last}</NextContinuationToken><NextMarker>{quote(last)}</NextMarker>"
        prefixes = "".join(f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>" for name in directories)
        count = len(items) + len(directories)
        return PAGE.format(
            quote(prefix), count, most, "true" if truncated else "false", next_page, "".join(items), prefixes
        ).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="+")
    parser.add_argument("--first-byte-ms", type=float, default=0.0)
    options = parser.parse_args()
    pairs = zip(options.shapes[::2], options.shapes[1::2], strict=True)
    bucket = Bucket([key for shape, count in pairs for key in names(shape, int(count))])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 20

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            due_s = time.monotonic() + options.first_byte_ms / 1000
            body = bucket.page(dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)))
            time.sleep(max(0.0, due_s - time.monotonic()))
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
            self.send_response(200 if key == "" or bucket.has(key) else 404)
            self.send_header("Content-Length", "1")
            self.send_header("ETag", '"9dd4e461268c8034f5c8564e155c67a6"')
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
