"""The tests of the collector notice what they are there for: each defect that is put in makes them fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridfs import catalog_lease
from gridfs.life import roots
from gridfs.life.roots import RootReader, Roots
from tests.sim.collecting import meet, without_threads
from tests.support.on_trio import on_mock_clock


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def creators_do_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A creator looks at what there is although a removal is announced that has not seen its lease."""

    async def is_removing(*_: object) -> bool:
        return False

    patch.setattr(catalog_lease, "_is_removing", is_removing)


def roots_are_read_once(patch: pytest.MonkeyPatch) -> None:
    """A removal goes by the roots from before it was announced."""
    read = RootReader.read

    async def read_once(self: RootReader, now_ns: int, grace_ns: int) -> Roots:
        if not hasattr(self, "first"):
            self.first = await read(self, now_ns, grace_ns)  # type: ignore[attr-defined]
        return self.first  # type: ignore[attr-defined,no-any-return]

    patch.setattr(RootReader, "read", read_once)


def leases_protect_nothing_that_was_put(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(roots, "SINCE_MARGIN_NS", -(10**18))


def leases_are_not_seen(patch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> list[object]:
        return []

    patch.setattr(roots, "live_leases", none)


async def violations(scratch: Path) -> list[str]:
    """Of a creation that begins at each of a collector's requests, with pauses of each length."""
    found: list[str] = []
    for pause_s in (0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 40.0):
        for requests in range(16):
            place = scratch / f"{pause_s}-{requests}"
            place.mkdir()
            world, _ = await meet(place, requests, pause_s)
            found += world.store.violations
            if found:
                return found
    return found


@pytest.mark.parametrize(
    "defect",
    [creators_do_not_wait, roots_are_read_once, leases_protect_nothing_that_was_put, leases_are_not_seen],
)
def test_a_defect_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect) -> None:
    @on_mock_clock
    async def live() -> None:
        defect(monkeypatch)
        assert await violations(tmp_path) != []

    live()
