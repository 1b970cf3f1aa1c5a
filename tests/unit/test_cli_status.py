"""What `grid status` makes of what daemons say."""

from __future__ import annotations

from pathlib import Path

from gridfs.cli.status import as_json, incident_lines, rows_of
from gridfs.mount.client import MountStatus
from gridfs.mount.spec import MountRecord

RECORD = MountRecord(
    mount_id="abc.0",
    name="pets",
    version=2,
    store_url="s3://b/p",
    uid=0,
    gid=0,
    pid=4711,
    started_at="2026-11-22T12:00:00Z",
    target=Path("/datastores/pets"),
    target_made=True,
    fuse_path=Path("/run/gridfs/mounts/abc.0/fuse"),
    fuse_device="0:77",
    veil_device="0:78",
    zero_open=True,
    veil="image",
    tree_path=Path("/run/gridfs/mounts/abc.0/tree"),
    read_ahead="4096",
    max_background="64",
    cache_directory=Path("/cache"),
    log_file=Path("/log/abc.log"),
    linger_s=None,
)


def incident(number: int, count: int) -> dict[str, object]:
    return {
        "kind": "StoreUnavailable",
        "subject": "",
        "message": f"cause {number}",
        "remedy": "check the network" if number == 0 else None,
        "count": count,
        "first_at_s": 0.0,
        "last_at_s": 60.0 * number,
    }


def test_a_row_for_each_path():
    paths = (Path("/datastores/pets"), Path("/data"))
    assert rows_of(MountStatus("abc.0", "mounted", RECORD, paths)) == [
        ["pets@2", "mounted", "/datastores/pets", "4711", "image", "on", "4096"],
        ["", "", "/data", "", "", "", ""],
    ]


def test_a_daemon_without_a_path_or_a_record():
    assert rows_of(MountStatus("abc.0", "mounted", RECORD, ()))[0][2] == "(for runs)"
    assert rows_of(MountStatus("abc.0", "starting", None, ())) == [["abc.0", "starting", "", "", "", "", ""]]


def test_incidents_the_latest_first_and_five_of_them():
    detail = {"incidents": [incident(number, number + 1) for number in range(7)]}
    lines = incident_lines(MountStatus("abc.0", "mounted", RECORD, (), detail))
    assert lines[0] == "pets@2: 7 times, last 1970-01-01 00:06:00 UTC: cause 6"
    assert lines[4:] == [
        "pets@2: 3 times, last 1970-01-01 00:02:00 UTC: cause 2",
        "pets@2: 2 other causes: grid status -o json",
    ]
    (once,) = incident_lines(MountStatus("abc.0", "mounted", RECORD, (), {"incidents": [incident(0, 1)]}))
    assert once == "pets@2: once, last 1970-01-01 00:00:00 UTC: cause 0; check the network"


def test_what_is_wrong_with_a_daemon_itself():
    (dead,) = incident_lines(MountStatus("abc.0", "dead", RECORD, ()))
    assert dead == "pets@2: its daemon (pid 4711) has ended without unmounting; log: /log/abc.log"
    disk = {"reader": {"disk": {"reason": "no space left"}}}
    assert incident_lines(MountStatus("abc.0", "mounted", RECORD, (), disk)) == [
        "pets@2: the disk cache is off: no space left"
    ]


def test_as_json():
    shown = as_json(MountStatus("abc.0", "mounted", RECORD, (Path("/data"),), {"incidents": [], "linger_s": None}))
    assert shown["paths"] == ["/data"]
    assert (shown["name"], shown["version"], shown["store"]) == ("pets", 2, "s3://b/p")
    assert (shown["incidents"], shown["statistics"]) == ([], {"linger_s": None})
