"""gridfs.cache.memory and gridfs.read.budget: whole parts are accounted, and the budget holds at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gridfs.cache.memory import MemoryCache, Part
from gridfs.config import GIB, MIB
from gridfs.read.budget import BACKGROUND_SHARE, Budget, cgroup_memory_limit_bytes, default_budget_bytes
from tests.support.data import ramp

BLOCK = 100


def part(identity: str = "a", start: int = 0, stop: int = 1000) -> Part:
    return Part(identity, BLOCK, start, stop, memoryview(ramp(stop - start, start)))


def kept(cache: MemoryCache, new: Part) -> Part:
    cache.pin(new)
    cache.publish(new, new.stop)
    cache.unpin(new)
    return new


def test_blocks_are_found_only_once_they_are_published() -> None:
    cache, new = MemoryCache(), part(start=300, stop=750)
    cache.pin(new)
    cache.publish(new, 550)
    assert [block for block in range(10) if cache.find("a", block)] == [3, 4]
    with pytest.raises(ValueError, match="verified"):
        new.view(500, 600)
    cache.publish(new, 750)
    assert [block for block in range(10) if cache.find("a", block)] == [3, 4, 5, 6, 7]
    assert bytes(new.view(310, 740)) == ramp(430, 310)


def test_the_least_recently_used_part_goes_first_and_whole() -> None:
    cache = MemoryCache()
    first, second, third = (kept(cache, part(name)) for name in "abc")
    cache.find("a", 9)
    assert cache.reclaim(1) == 1000
    assert set(cache.parts()) == {first, third}
    assert cache.find("b", 0) is None
    assert cache.size_bytes == 2000
    assert second.ready == 1000  # who still has it may go on reading


def test_a_pinned_part_is_not_evicted() -> None:
    cache, new = MemoryCache(), part()
    kept(cache, new)
    cache.pin(new)
    assert cache.reclaim(1) == 0
    cache.unpin(new)
    assert cache.reclaim(1) == 1000


def test_a_part_of_which_nothing_was_published_is_not_kept() -> None:
    cache, new = MemoryCache(), part()
    cache.pin(new)
    cache.unpin(new)
    assert cache.size_bytes == 0


def test_a_block_that_came_again_belongs_to_the_newer_part() -> None:
    cache = MemoryCache()
    older, newer = kept(cache, part(stop=300)), kept(cache, part(start=200, stop=500))
    assert cache.drop(older) == 300
    assert cache.find("a", 0) is None
    assert cache.find("a", 2) is newer


class BudgetMachine(RuleBasedStateMachine):
    """Any order of reserving, landing, failing and reclaiming keeps the limit (invariant 6)."""

    LIMIT = 5000

    def __init__(self) -> None:
        super().__init__()
        self.cache = MemoryCache()
        self.budget = Budget(self.LIMIT, self.cache)
        self.reserved: list[int] = []
        self.pinned: list[Part] = []
        self.names = 0

    @rule(size=st.integers(1, 3000), background=st.booleans())
    def reserve(self, size: int, background: bool) -> None:
        held = sum(self.reserved) + sum(part.size_bytes for part in self.pinned)
        if self.budget.reserve_nowait(size, background=background):
            self.reserved.append(size)
            assert not background or not held or held + size <= self.LIMIT * BACKGROUND_SHARE
        else:
            assert held

    @precondition(lambda self: self.reserved)
    @rule()
    def hold(self) -> None:
        self.names += 1
        new = part(str(self.names), 0, self.reserved.pop())
        self.cache.pin(new)
        self.budget.release(new.size_bytes)
        self.cache.publish(new, new.stop)
        self.pinned.append(new)

    @precondition(lambda self: self.pinned)
    @rule()
    def land(self) -> None:
        self.cache.unpin(self.pinned.pop(0))

    @precondition(lambda self: self.reserved)
    @rule()
    def fail(self) -> None:
        self.budget.release(self.reserved.pop())

    @invariant()
    def within_the_limit(self) -> None:
        assert self.budget.used_bytes <= self.LIMIT
        assert self.budget.in_flight_bytes == sum(self.reserved)
        assert self.cache.size_bytes == sum({id(p): p.size_bytes for p in self.cache.blocks.values()}.values())


TestBudgetMachine = BudgetMachine.TestCase


async def _who_waits() -> None:
    cache = MemoryCache()
    budget, order = Budget(1000, cache), []
    assert budget.reserve_nowait(900)

    async def wait(name: str, background: bool) -> None:
        await budget.reserve(500, background=background)
        order.append(name)
        budget.release(500)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "window", True)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, "reader", False)
        await trio.testing.wait_all_tasks_blocked()
        assert not order
        budget.release(900)
    assert order == ["reader", "window"]
    assert budget.used_bytes == 0


def test_a_reader_gets_memory_before_background_work_that_waited_longer() -> None:
    trio.run(_who_waits)


async def _cancelled_while_waiting() -> None:
    budget = Budget(1000, MemoryCache())
    assert budget.reserve_nowait(900)
    with trio.CancelScope() as scope:
        scope.cancel()
        await budget.reserve(500)
    budget.release(900)
    assert budget.used_bytes == 0
    assert budget.reserve_nowait(1000)


def test_who_is_cancelled_while_waiting_holds_nothing() -> None:
    trio.run(_cancelled_while_waiting)


async def _cancelled_when_it_was_let_in() -> None:
    budget = Budget(1000, MemoryCache())
    assert budget.reserve_nowait(900)
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await budget.reserve(500)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        budget.release(900)  # before the cancellation is delivered
        assert budget.in_flight_bytes == 500
    assert scope.cancelled_caught
    assert budget.used_bytes == 0


def test_who_is_let_in_and_cancelled_at_once_holds_nothing() -> None:
    trio.run(_cancelled_when_it_was_let_in)


def test_one_part_that_is_larger_than_the_budget_passes_alone() -> None:
    budget = Budget(1000, MemoryCache())
    assert budget.reserve_nowait(2000)
    assert not budget.reserve_nowait(1)
    budget.release(2000)
    assert budget.reserve_nowait(2000, background=True)


def test_the_cgroup_limit_is_the_tightest_of_version_2_or_1(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    two, one = tmp_path / "sys/fs/cgroup/slurm/job", tmp_path / "sys/fs/cgroup/memory/box"
    two.mkdir(parents=True)
    one.mkdir(parents=True)
    cgroup = tmp_path / "proc/self/cgroup"
    assert cgroup_memory_limit_bytes(tmp_path) is None
    cgroup.write_text("0::/slurm/job\n")
    (two / "memory.max").write_text("max\n")
    assert cgroup_memory_limit_bytes(tmp_path) is None
    (two.parent / "memory.max").write_text(f"{3 * GIB}\n")
    assert cgroup_memory_limit_bytes(tmp_path) == 3 * GIB
    cgroup.write_text("5:cpu,cpuacct:/box\n4:memory:/box\n")
    (one / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (one.parent / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cgroup_memory_limit_bytes(tmp_path) == 2 * GIB
    (one / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cgroup_memory_limit_bytes(tmp_path) is None


def test_the_default_budget_is_a_quarter_of_a_small_cgroup_and_at_most_1_gib() -> None:
    assert default_budget_bytes(400 * MIB) == 100 * MIB
    assert default_budget_bytes(1 << 50) <= GIB
