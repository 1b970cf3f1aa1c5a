"""Attaching a run without a client of the store: a daemon that lives has one.

Which version is meant is asked of any daemon of this user's that serves from the same store, and the daemon asks the
store anew, so a version that was made a moment ago counts. What can't be found this way (no daemon, another store, an
unknown name) is None, and the caller takes the long way, which also has the words for what is wrong.
"""

from __future__ import annotations

from gridfs.config import MountOptions, Paths, StoreSettings
from gridfs.errors import StoreUnavailable
from gridfs.model import Version, VersionSpec
from gridfs.mount import control
from gridfs.mount.attach import find_daemon, owner
from gridfs.mount.registry import Registry
from gridfs.mount.spec import MountRecord, from_json_value, plain


def resolved_by_a_daemon(
    store: StoreSettings, spec: VersionSpec, options: MountOptions, paths: Paths
) -> MountRecord | None:
    """The living daemon that serves *spec* with this look; None when that can't be told without the store."""
    registry, mine = Registry(paths.runtime), owner()
    for record in registry.living():
        if record.store_url != store.url or (record.uid, record.gid) != (mine.uid, mine.gid):
            continue
        try:
            answer = control.ask(registry.directory_of(record.mount_id), "resolve", spec=str(spec), store=plain(store))
        except StoreUnavailable:
            continue
        if "version" in answer:
            return find_daemon(store, from_json_value(Version, answer["version"]), options, paths)
    return None
