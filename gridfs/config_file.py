"""The configuration file (TOML): stores by name, and this node's cache.

    default = "lab"

    [stores]
    scratch = "file:///mnt/scratch/datastores"

    [stores.lab]
    url = "s3://lab-datasets/grid"
    endpoint_url = "https://s3.lab.example"

    [cache]
    directory = "/var/cache/gridfs"
    max_size = "200GiB"

Parsed here at the border, into records; whatever is wrong is an InvalidInput that names the file, the line and the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gridfs.config import StoreSettings, parse_size
from gridfs.errors import AccessDenied, InvalidInput, NotFound
from gridfs.light import expanded

TOP_KEYS = ("default", "stores", "cache")
STORE_KEYS = ("url", "endpoint_url", "region", "profile", "sign", "requester_pays")
CACHE_KEYS = ("directory", "max_size", "memory_target")
TABLES = {"the top level": TOP_KEYS, "stores.NAME": STORE_KEYS, "cache": CACHE_KEYS}
"""Every key there is; tests/unit/test_docs.py looks each up in docs/configuration.md."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What the file says; all empty when there is none."""

    path: Path
    stores: Mapping[str, StoreSettings] = field(default_factory=dict)
    default: str | None = None
    cache_directory: Path | None = None
    max_cache_size_bytes: int | None = None
    memory_target_bytes: int | None = None


def read_config_file(path: Path, *, required: bool = False) -> ConfigFile:
    """Reads *path*; a missing file is an empty one, unless it was asked for by name (*required*)."""
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise NotFound(f"no configuration file {path}", remedy="correct --config or GRIDFS_CONFIG") from error
        return ConfigFile(path)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text", remedy="save it as UTF-8") from error
    except PermissionError as error:
        raise AccessDenied(f"{path} may not be read by you", remedy="correct its permissions") from error
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error
    return parse_config_file(path, text)


def parse_config_file(path: Path, text: str) -> ConfigFile:
    """What *text* says, which was read from *path*. Raises InvalidInput."""
    return _Parser(path, text).parse()


class _Parser:
    """Checks one file's tables; every failure is made by `_wrong`, which finds the line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        import tomllib  # 3 ms that most commands, having no file, need not pay

        self._lines = text.splitlines()
        try:
            self._document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{path} is no TOML: {error}", remedy="correct that line") from error

    def parse(self) -> ConfigFile:
        self._check_keys(self._document, TOP_KEYS, table_name="")
        stores = {
            name: self._store(name, value) for name, value in self._table(self._document, "stores", "stores").items()
        }
        cache = self._table(self._document, "cache", "cache")
        self._check_keys(cache, CACHE_KEYS, table_name="cache")
        default = self._text(self._document, "default", "")
        if default is not None and default not in stores:
            raise self._wrong("", "default", f"names the store '{default}', which is not under [stores]")
        directory = self._text(cache, "directory", "cache")
        if directory is not None and not directory.startswith(("/", "~")):
            raise self._wrong("cache", "directory", "must be an absolute path")
        return ConfigFile(
            self._path,
            stores,
            default,
            Path(expanded(directory)) if directory else None,
            self._size(cache, "max_size"),
            self._size(cache, "memory_target"),
        )

    def _store(self, name: str, value: object) -> StoreSettings:
        if isinstance(value, str):
            return StoreSettings(self._url(value, "stores", name))
        if not isinstance(value, dict):
            raise self._wrong("stores", name, "must be an address, or a table with 'url'")
        table = f"stores.{name}"
        self._check_keys(value, STORE_KEYS, table_name=table)
        url = self._text(value, "url", table)
        if url is None:
            raise self._wrong("stores", name, "has no 'url'")
        return StoreSettings(
            url=self._url(url, table, "url"),
            endpoint_url=self._text(value, "endpoint_url", table),
            region=self._text(value, "region", table),
            profile=self._text(value, "profile", table),
            sign=self._flag(value, "sign", table, default=True),
            requester_pays=self._flag(value, "requester_pays", table, default=False),
        )

    def _url(self, value: str, table: str, key: str) -> str:
        if "://" not in value and not value.startswith(("/", "~")):
            raise self._wrong(table, key, f"must be an address such as s3://bucket/prefix, not '{value}'")
        return expanded(value) if value.startswith("~") else value

    def _table(self, parent: Mapping[str, object], key: str, table: str) -> dict[str, object]:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong("", key, f"must be a table: [{table}]")
        return value

    def _text(self, table: Mapping[str, object], key: str, table_name: str) -> str | None:
        value = table.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        raise self._wrong(table_name, key, "must be a text that is not empty")

    def _flag(self, table: Mapping[str, object], key: str, table_name: str, *, default: bool) -> bool:
        value = table.get(key, default)
        if isinstance(value, bool):
            return value
        raise self._wrong(table_name, key, "must be true or false")

    def _size(self, table: Mapping[str, object], key: str) -> int | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self._wrong("cache", key, 'must be a size such as "200GiB"')
        try:
            return parse_size(str(value))
        except InvalidInput as error:
            raise self._wrong("cache", key, f"is wrong: {error.message}") from error

    def _check_keys(self, table: Mapping[str, object], known: tuple[str, ...], *, table_name: str) -> None:
        for key in table:
            if key not in known:
                import difflib

                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
                raise self._wrong(table_name, key, f"is no setting ({hint})")

    def _wrong(self, table: str, key: str, what: str) -> InvalidInput:
        dotted = f"{table}.{key}" if table else key
        where = f"{self._path}, line {self._line_of(table, key)}"
        return InvalidInput(f"{where}: '{dotted}' {what}", remedy="correct that line")

    def _line_of(self, table: str, key: str) -> int:
        """The line that sets *key* of *table*: tomllib keeps no positions, so the text is looked through again."""
        current, fallback = "", 1
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
            if header:
                current = header.group(1).replace('"', "").replace("'", "")
                if current in (f"{table}.{key}" if table else key, table):
                    fallback = number
            elif current == table and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line):
                return number
        return fallback
