"""Which bucket, how it is reached, and which keys the byte client can name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

_UNADDRESSABLE = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]")
"""An empty component (so also a slash at either end), `.`, `..`, a control character."""


class ProvidedCredentials(TypedDict):
    """What obstore asks of a provider of credentials, in its words."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """Keys that do not change."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"StaticCredentials({self.access_key_id!r}, ...)"  # no secret ever reaches a log


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Everything is explicit: what is missing here, obstore would take from the environment."""

    bucket: str
    region: str
    endpoint_url: str | None = None
    """None: AWS itself."""
    credentials: StaticCredentials | Callable[[], ProvidedCredentials] | None = None
    """A provider is called in a foreign thread, whenever the last credentials expire. None: requests are not signed."""
    requester_pays: bool = False
    is_direct: bool = True
    """Whether the server is asked itself, and not through a proxy that the environment names."""

    @property
    def endpoint(self) -> str:
        return self.endpoint_url or f"https://s3.{self.region}.amazonaws.com"


def is_addressable(key: str) -> bool:
    """Whether obstore can name *key*; it drops a leading or trailing slash silently and refuses the rest."""
    return _UNADDRESSABLE.search(key) is None
