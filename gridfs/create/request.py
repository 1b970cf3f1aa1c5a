"""What is to be made of what: the request of one creation, kept beside its journal for a `resume` without arguments."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from gridfs.addresses import shown_url
from gridfs.config import StoreSettings
from gridfs.errors import FormatError, InvalidInput
from gridfs.light import expanded
from gridfs.model import Mode


class SourceKind(StrEnum):
    """What a source is, told by its spelling alone."""

    LOCAL = "local"
    BUCKET = "bucket"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """One creation. Two equal requests (for one store) are the same creation: the second continues the first."""

    name: str
    """Of the datastore, normalised."""
    source: str
    """An absolute path, an s3:// or an http(s):// address. The latter may have a password or a signature in it, which a
    `resume` needs: it is kept in a file that is the user's alone, and shown by `shown_url`."""
    mode: Mode = Mode.COPY
    skip_unreadable: bool = False
    """Leave out what can't be read, and report it."""
    checksum: bool = False
    """Read every file, also those whose path, size and mtime are those of the version before."""
    extract: bool = False
    """Take a local archive apart; an HTTP one always is."""
    source_settings: StoreSettings | None = None
    """How to reach a bucket."""
    include: tuple[str, ...] = ()
    """Of a bucket: patterns of paths that are taken; empty: all."""
    exclude: tuple[str, ...] = ()
    """Of a bucket: patterns of paths that are left out."""
    strict: bool = False
    """Make no version if anything can't be represented."""

    @property
    def kind(self) -> SourceKind:
        return source_kind(self.source)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CreateRequest:
        """Raises FormatError when *text* is no request of this version of gridfs."""
        try:
            values = json.loads(text)
            settings = values.pop("source_settings")
            request = cls(**values, source_settings=None if settings is None else StoreSettings(**settings))
            return replace(
                request, mode=Mode(request.mode), include=tuple(request.include), exclude=tuple(request.exclude)
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(
                "the journal of this creation is of another version of gridfs", remedy="`grid datastore clearcache`"
            ) from error

    def key(self, store_url: str) -> str:
        """Names the creation on this node (16 hex digits)."""
        return hashlib.sha256(f"{store_url}\n{self.to_json()}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def source_kind(source: str) -> SourceKind:
    """What *source* is: http(s)://, s3:// in any case, or a path. Raises InvalidInput for another scheme, and for a URL
    that no request could be sent to."""
    if re.match(r"(s3|https?):(?!//)", source, re.IGNORECASE):
        raise InvalidInput(
            f"{shown_url(source)!r} is no address",
            remedy="write s3://BUCKET/PREFIX or https://HOST/PATH; ./ goes before a folder",
        )
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    scheme = match[1].lower() if match else "file"
    if scheme in ("http", "https"):
        if (wrong := _what_is_wrong(source)) is not None:
            password = "; in a password '/', '?', '#' and '@' are %2F, %3F, %23 and %40" if "@" in source else ""
            raise InvalidInput(
                f"{_shown_malformed(source)!r} is no address: {wrong}",
                remedy=f"write https://HOST[:PORT]/PATH{password}",
            )
        return SourceKind.HTTP
    if scheme in ("s3", "gs", "az"):
        return SourceKind.BUCKET
    if scheme == "file":
        return SourceKind.LOCAL
    raise InvalidInput(
        f"{shown_url(source)!r} is no source: {scheme}:// is unknown", remedy="give a folder, s3:// or https://"
    )


def _what_is_wrong(url: str) -> str | None:
    """Asked here, because urllib, httpx and the look-up of a host each raise something of their own for it."""
    try:
        url.encode()
        parts = urlsplit(url)
    except UnicodeEncodeError:
        return "it has bytes in it that are no UTF-8"
    except ValueError:
        return "its host is malformed"
    try:
        _ = parts.port
    except ValueError:
        return "its port is no number up to 65535"
    if not parts.hostname:
        return "it names no host"
    is_host = all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split("."))
    return None if is_host else "its host is malformed"


def _shown_malformed(url: str) -> str:
    """As `shown_url`, where a password with a '/', '?' or '#' in it may be what is wrong: then its '@' comes later."""
    scheme, _, rest = url.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{'...' if '@' in rest[len(place) :] else place.rpartition('@')[2]}"


def absolute_source(source: str) -> str:
    """*source* as the request has it: paths made absolute (a link stays one), schemes in lower case."""
    kind = source_kind(source)
    if kind is not SourceKind.LOCAL:
        scheme, _, rest = source.partition("://")
        return f"{scheme.lower()}://{rest}"
    path = source[len("file://") :] if source.lower().startswith("file://") else source
    if not path:
        raise InvalidInput("the source is empty", remedy="give a folder, s3:// or https://")
    return str(Path(expanded(path)).absolute())
