"""Which store is meant, and how to reach it.

The first of these that is given decides:

    1. --store               an address, a path, or a name from the configuration file
    2. --cluster             a name from the configuration file
    3. GRIDFS_STORE          as --store
    4. GRIDFS_CLUSTER        as --cluster
    5. `default`             of the configuration file
    6. the directory `gridfs/store` of the user's data home

How to reach it (endpoint, region, profile, signing) is then taken, each by itself, from the flags, from the store's own
table in the file, and, for s3://, from the AWS variables: what is said of one store beats what is said of all. The
variable AWS_PROFILE is left to the AWS chain, in which keys in the environment beat it, and a profile that was named
beats them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

from gridfs.addresses import shown_url
from gridfs.config import AwsEnvironment, Environment, Paths, StoreSettings
from gridfs.config_file import ConfigFile
from gridfs.errors import InvalidInput
from gridfs.light import expanded

SCHEMES = ("file", "s3", "gs", "az")

_ENDPOINT = re.compile(
    r"(?P<scheme>https?)(?P<rest>://(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9._-]*[a-z0-9_.])?)(:(?P<port>[0-9]{1,5}))?"
    r"(/[a-z0-9._~!$&'()*+,;=:@%/-]*)?)",
    re.IGNORECASE | re.ASCII,
)
"""Without user, query and fragment: a server has none, and they would be lost on the way."""
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class StoreFlags:
    """What the command line says of the store; None where it says nothing."""

    store: str | None = None
    cluster: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    no_sign_request: bool = False


@dataclass(frozen=True, slots=True)
class SelectedStore:
    settings: StoreSettings
    cluster: str | None
    """Its name in the configuration file, if it has one."""


def select_store(flags: StoreFlags, environment: Environment, file: ConfigFile, paths: Paths) -> SelectedStore:
    """The store that is meant. Raises InvalidInput for an unknown name or an address that is none."""
    if flags.store and flags.cluster:
        raise InvalidInput("--store and --cluster both name a store", remedy="give one of them")
    if flags.store:
        selected = _by_address_or_name(flags.store, "--store", file)
    elif flags.cluster:
        selected = _by_name(flags.cluster, "--cluster", file)
    elif environment.store:
        selected = _by_address_or_name(environment.store, "GRIDFS_STORE", file)
    elif environment.cluster:
        selected = _by_name(environment.cluster, "GRIDFS_CLUSTER", file)
    elif file.default:
        selected = _by_name(file.default, f"'default' of {file.path}", file)
    else:
        selected = SelectedStore(default_store(paths), None)
    return replace(selected, settings=_reached_by(selected.settings, flags, environment))


def default_store(paths: Paths) -> StoreSettings:
    """The store that is meant where nothing names one."""
    return StoreSettings(_file_url(paths.data / "store"))


def _by_address_or_name(text: str, origin: str, file: ConfigFile) -> SelectedStore:
    if text in file.stores:
        return _by_name(text, origin, file)
    if "://" in text:
        url = normalised_url(text, origin)
        for name, settings in file.stores.items():
            if normalised_url(settings.url, str(file.path)) == url:
                return SelectedStore(replace(settings, url=url), name)
        return SelectedStore(StoreSettings(url), None)
    if "/" in text or text in (".", ".."):
        return SelectedStore(StoreSettings(_file_url(Path(expanded(text)))), None)
    return _by_name(text, origin, file)


def _by_name(name: str, origin: str, file: ConfigFile) -> SelectedStore:
    settings = file.stores.get(name)
    if settings is None:
        import difflib

        near = difflib.get_close_matches(name, file.stores, 1)
        known = f"did you mean '{near[0]}'?" if near else f"{file.path} has: {', '.join(sorted(file.stores)) or 'none'}"
        remedy = f"{known}; an address looks like s3://bucket/prefix, file:///path or ./directory"
        raise InvalidInput(f"{origin} '{name}' is no store in the configuration file", remedy=remedy)
    return SelectedStore(replace(settings, url=normalised_url(settings.url, str(file.path))), name)


def normalised_url(url: str, origin: str) -> str:
    """*url* with its scheme in lower case and no final slash; a plain path becomes a file:// address."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _file_url(Path(expanded(url)))
    scheme = scheme.lower()
    if scheme not in SCHEMES:
        remedy = "write it as s3://bucket/prefix or file:///path"
        raise InvalidInput(f"{origin} '{url}': '{scheme}://' is no store that gridfs knows", remedy=remedy)
    if scheme == "file":
        if not rest.startswith("/"):
            raise InvalidInput(f"{origin} '{url}' has no absolute path", remedy="write it as file:///path")
        path = unquote(rest, errors="surrogateescape")
        if "\0" in path:
            raise InvalidInput(f"{origin} '{url}' is no path: it holds a NUL", remedy="write it as file:///path")
        return _file_url(Path(path))
    if not rest.strip("/"):
        raise InvalidInput(f"{origin} '{url}' names no bucket", remedy=f"write it as {scheme}://bucket/prefix")
    return f"{scheme}://{rest.rstrip('/')}"


def endpoint_of(flag: str | None, setting: str | None, aws: AwsEnvironment) -> str | None:
    """The server that is meant, without a final slash; None is AWS. Raises InvalidInput for what is no address of one.

    Checked here, since of those who would use it each refuses other addresses, one of them by a panic.
    """
    origin = "--endpoint-url" if flag else "endpoint_url" if setting else "AWS_ENDPOINT_URL"
    endpoint_url = flag or setting or aws.endpoint_url
    if not endpoint_url:
        return None
    match = _ENDPOINT.fullmatch(endpoint_url)
    if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
        remedy = "write it as https://host or http://host:port, without user and query"
        raise InvalidInput(f"{origin} '{shown_url(endpoint_url)}' is no address", remedy=remedy)
    return match["scheme"].lower() + match["rest"].rstrip("/")


def _file_url(path: Path) -> str:
    """The address of *path*, with what an address can't hold as %XX, as the store itself spells it."""
    return "file://" + quote(os.fsencode(path.absolute()), safe="/")


def _reached_by(settings: StoreSettings, flags: StoreFlags, environment: Environment) -> StoreSettings:
    is_s3 = settings.url.startswith("s3://")
    given = [name for name in ("endpoint_url", "region", "profile") if getattr(flags, name)]
    if flags.no_sign_request:
        given.append("no_sign_request")
    if given and not is_s3:
        option = "--" + given[0].replace("_", "-")
        remedy = "leave it out, or name the store with --store s3://bucket/prefix"
        raise InvalidInput(f"{option} means nothing for the store {settings.url}", remedy=remedy)
    if not is_s3:
        return settings
    return replace(
        settings,
        endpoint_url=endpoint_of(flags.endpoint_url, settings.endpoint_url, environment.aws),
        region=flags.region or settings.region or environment.aws.region,
        profile=flags.profile or settings.profile,
        sign=settings.sign and not flags.no_sign_request,
    )
