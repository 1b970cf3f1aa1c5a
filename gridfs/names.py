"""The names of datastores: lower-case ASCII without spaces, so that they serve as directories and in keys as they are.

One rule makes a name of any text: compatibility decomposition (NFKD, so that `é` becomes `e`), lower case, and then
only `a-z 0-9 . _ -` is kept, beginning with a letter or a digit. Names that users give and names that are taken from a
source obey it alike, and whoever calls this says the result to the user.
"""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import unquote, urlsplit

from gridfs.addresses import shown_url
from gridfs.errors import InvalidInput
from gridfs.model import VersionSpec

MAX_NAME_LENGTH = 128
"""Leaves room in a directory entry (255 bytes) and in an object key (1,024) for what is put round it."""

_ARCHIVE_SUFFIXES = frozenset(
    ("zip", "tar", "gz", "tgz", "bz2", "tbz", "tbz2", "xz", "txz", "zst", "tzst", "7z", "whl", "egg", "jar")
)
_FORBIDDEN = re.compile(r"[^a-z0-9._-]+")
_REMEDY = "a name has letters, digits, '.', '_' and '-', and no version in it"


def normalise_name(text: str) -> str:
    """The datastore name that *text* means. Raises InvalidInput when nothing is left of it, or it is no name at all."""
    if "@" in text or "/" in text:
        raise InvalidInput(f"{text!r} can't be the name of a datastore: '@' and '/' have meanings of their own",
                           remedy=_REMEDY)  # fmt: skip
    name = _reduced(text)
    if not name:
        raise InvalidInput(f"{text!r} can't be the name of a datastore: no letter or digit is left of it in ASCII",
                           remedy=_REMEDY)  # fmt: skip
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidInput(f"{text!r} is too long for the name of a datastore (at most {MAX_NAME_LENGTH})",
                           remedy=_REMEDY)  # fmt: skip
    return name


def name_from_source(source: str) -> str:
    """The name of a datastore that is made from *source* and was given none: that of its last component.

    A folder's path is resolved when it ends in `.` or `..`; a URL's query is ignored; suffixes of archives are taken
    off files and URLs; the root of a bucket has the bucket's name. Raises InvalidInput, which suggests --name.
    """
    if re.fullmatch(r"(s3|gs|az)://", source, re.IGNORECASE):
        raise InvalidInput(f"{source!r} names no bucket", remedy=f"write it as {source}bucket/prefix")
    component = _last_component(source)
    name = _reduced(component)[:MAX_NAME_LENGTH]
    if not name:
        raise InvalidInput(
            f"{shown_url(source)!r} has no last component that a datastore could be named after",
            remedy="give one with --name (letters, digits, '.', '_' and '-')",
        )
    return name


def parse_spec(text: str) -> VersionSpec:
    """`NAME` or `NAME@VERSION` as users write it. Raises InvalidInput."""
    if "://" in text:
        raise InvalidInput(
            f"{shown_url(text)!r} is an address, and not the name of a datastore",
            remedy="`grid datastore` lists the names; a store is chosen with --store",
        )
    looks_like = re.fullmatch(r"([^:@]+):([0-9]{1,8})", text)
    if looks_like is not None:
        raise InvalidInput(
            f"{text!r} names no version: its number comes after '@'",
            remedy=f"for example {looks_like[1]}@{looks_like[2]}",
        )
    name, at, version = text.partition("@")
    if not name:
        raise InvalidInput(f"{text!r} names no datastore", remedy="`grid datastore` lists those that exist")
    if not at:
        return VersionSpec(normalise_name(name))
    if not re.fullmatch(r"[0-9]{1,8}", version) or int(version) == 0:
        raise InvalidInput(
            f"{text!r} names no version: after '@' comes its number, from 1", remedy=f"for example {name or 'NAME'}@1"
        )
    return VersionSpec(normalise_name(name), int(version))


def _reduced(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).lower()
    return _FORBIDDEN.sub("", plain).lstrip("._-")


def _last_component(source: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        scheme, _, rest = source.partition("://")
        if scheme.lower() == "file":
            return _last_of_path(unquote(rest))
        if scheme.lower() in ("http", "https"):
            address = urlsplit(source)
            return _without_suffixes(unquote(address.path).rstrip("/").rpartition("/")[2]) or (address.hostname or "")
        # A key may hold '?' and '#', which mean nothing in an address of an object store.
        bucket, _, key = rest.partition("/")
        return key.rstrip("/").rpartition("/")[2] or bucket
    return _last_of_path(source)


def _last_of_path(path: str) -> str:
    last = os.path.basename(path.rstrip("/"))
    if last in ("", ".", ".."):
        last = os.path.basename(os.path.realpath(path)) if path else ""
    return _without_suffixes(last) if os.path.isfile(path) else last


def _without_suffixes(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    while dot and stem and suffix.lower() in _ARCHIVE_SUFFIXES:
        name = stem
        stem, dot, suffix = name.rpartition(".")
    return name
