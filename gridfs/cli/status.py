"""`grid status`: what is mounted on this node by this user, how it does, and what went wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gridfs.cli.failures import one_line
from gridfs.cli.invocation import Invocation
from gridfs.cli.output import Column, print_json, print_table, say, shown_count

if TYPE_CHECKING:
    from gridfs.mount.client import MountStatus

INCIDENTS_SHOWN = 5
"""For each mount, the latest; `-o json` has all that the daemon remembers."""


@click.command("status")
@click.pass_obj
def status(invocation: Invocation) -> None:
    """Shows what is mounted on this node by you, and what went wrong, each cause with how often and what to do.

    \b
    Examples:
      grid status
      grid status -o json
    """
    from gridfs.mount.client import status as mounts_of
    from gridfs.mount.client import unregistered
    from gridfs.mount.veil import SOURCE_PREFIX

    mounts = mounts_of(invocation.paths)
    if invocation.json:
        print_json([as_json(mount) for mount in mounts])
        return
    print_table(
        [
            Column("Datastore"),
            Column("State"),
            Column("Path"),
            Column("Pid", right=True),
            Column("Veil"),
            Column("Zero-Message Open"),
            Column("Read-Ahead"),
        ],
        [row for mount in mounts for row in rows_of(mount)],
    )
    for mount in mounts:
        for line in incident_lines(mount):
            click.echo(line)
    strangers = unregistered(mounts)
    for mounted in strangers:
        label = mounted.source.removeprefix(SOURCE_PREFIX)
        place = one_line(str(mounted.mountpoint))
        say(f"{place} holds {label}, mounted with another XDG_RUNTIME_DIR: grid unmount {place}")
    if not mounts and not strangers:
        say("Nothing is mounted. Mount something: grid mount NAME")
    if any(mount.state == "dead" for mount in mounts):
        say("A dead daemon's remains are cleaned by the next `grid mount` or `grid run`.")


def rows_of(mount: MountStatus) -> list[list[str]]:
    """One row for each path of a mount; the first one tells the rest."""
    record = mount.record
    if record is None:
        return [[mount.mount_id, mount.state, "", "", "", "", ""]]
    paths = [str(path) for path in mount.paths] or ["(for runs)" if mount.state == "mounted" else ""]
    zero_open = "on" if record.zero_open else "off"
    first = [record.label, mount.state, paths[0], str(record.pid), record.veil, zero_open, record.read_ahead]
    return [first, *(["", "", path, "", "", "", ""] for path in paths[1:])]


def incident_lines(mount: MountStatus) -> list[str]:
    """What went wrong with a mount, the latest first, and how to learn more."""
    incidents = list(reversed(mount.detail.get("incidents", [])))
    label = mount.record.label if mount.record is not None else mount.mount_id
    lines = [_incident_line(label, incident) for incident in incidents[:INCIDENTS_SHOWN]]
    if len(incidents) > INCIDENTS_SHOWN:
        lines.append(f"{label}: {shown_count(len(incidents) - INCIDENTS_SHOWN, 'other cause')}: grid status -o json")
    disk = mount.detail.get("reader", {}).get("disk", {})
    if disk.get("reason"):
        lines.append(f"{label}: the disk cache is off: {disk['reason']}")
    if mount.state in ("dead", "silent") and mount.record is not None:
        daemon = f"its daemon (pid {mount.record.pid}) {_STATES[mount.state]}"
        lines.append(f"{label}: {daemon}; log: {mount.record.log_file}")
    return [one_line(line) for line in lines]


_STATES = {"dead": "has ended without unmounting", "silent": "does not answer"}


def _incident_line(label: str, incident: dict[str, Any]) -> str:
    last = datetime.fromtimestamp(incident["last_at_s"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    times = "once" if incident["count"] == 1 else f"{incident['count']:,} times"
    remedy = f"; {incident['remedy']}" if incident["remedy"] else ""
    return f"{label}: {times}, last {last} UTC: {incident['message']}{remedy}"


def as_json(mount: MountStatus) -> dict[str, Any]:
    """A mount with everything that its daemon says of itself."""
    record = mount.record
    shown: dict[str, Any] = {"mount_id": mount.mount_id, "state": mount.state, "paths": [str(p) for p in mount.paths]}
    if record is not None:
        shown |= {
            "name": record.name,
            "version": record.version,
            "store": record.store_url,
            "pid": record.pid,
            "uid": record.uid,
            "gid": record.gid,
            "started_at": record.started_at,
            "veil": record.veil,
            "zero_open": record.zero_open,
            "read_ahead": record.read_ahead,
            "max_background": record.max_background,
            "cache_directory": str(record.cache_directory),
            "log_file": str(record.log_file),
        }
    statistics = dict(mount.detail)
    return shown | {"incidents": statistics.pop("incidents", []), "statistics": statistics}
