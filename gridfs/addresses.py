"""Addresses as they may be shown: a URL can carry a password, or a signature that is as good as one."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(https?:/*|(?!(?:s3|gs|az|file):)[a-z][a-z0-9+.-]*://)(.*)", re.IGNORECASE | re.DOTALL)
"""Not those of object stores and files: they carry no secret, and a key may hold any character."""
_IN_TEXT = re.compile(r"https?://[^\s'\"]*[^\s'\".,;:)]", re.IGNORECASE)


def shown_url(source: str) -> str:
    """The URL *source* without what may be secret: user, password, query and fragment. Anything else stays as it is."""
    match = _ADDRESS.fullmatch(source)
    if match is None:
        return source
    host, slash, path = re.split(r"[?#]", match[2], maxsplit=1)[0].partition("/")
    return f"{match[1]}{host.rpartition('@')[2]}{slash}{path}"


def without_secrets(text: str) -> str:
    """A message with every URL in it as `shown_url` has it: for what gridfs did not word itself."""
    return _IN_TEXT.sub(lambda match: shown_url(match[0]), text)
