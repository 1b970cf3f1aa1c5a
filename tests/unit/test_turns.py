"""Workers at the device: what waits is taken at once, everyone else has turns, and nobody is left behind."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from gridfs.turns import BURST, Turns


class Requests:
    """A pipe in place of the device: a request is a byte."""

    def __init__(self, count: int = 0) -> None:
        self.descriptor, self._end = os.pipe()
        os.set_blocking(self.descriptor, False)
        self.turns = Turns()
        self.device = self.turns.Lock()
        self.served: list[int] = []
        self.arrive(count)

    def arrive(self, count: int = 1) -> None:
        os.write(self._end, bytes(count))

    async def take(self) -> bool:
        """One round of a worker of pyfuse3; whether there was a request, as a read that does not block tells."""
        async with self.turns.Lock():
            await self.turns.lowlevel.wait_readable(self.descriptor)
        try:
            self.served += os.read(self.descriptor, 1)
        except BlockingIOError:
            return False
        return True

    async def work(self) -> None:
        while True:
            await self.take()


class Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def run(body: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        with trio.fail_after(30):
            return await body()

    return trio.run(limited)


def test_requests_that_wait_are_taken_in_one_step() -> None:
    async def body() -> int:
        requests, steps = Requests(), Steps()
        requests.arrive()
        await requests.take()  # from here on it knows the descriptor
        requests.arrive(BURST)
        trio.lowlevel.add_instrument(steps)
        for _ in range(BURST):
            assert await requests.take()
        trio.lowlevel.remove_instrument(steps)
        return steps.count

    assert run(body) == 0


def test_others_have_a_turn_after_each_burst() -> None:
    async def body() -> int:
        requests, turns = Requests(), 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            requests.arrive(10 * BURST)
            while len(requests.served) < 10 * BURST:
                await requests.take()
            nursery.cancel_scope.cancel()
        return turns

    assert run(body) >= 9


def test_workers_together_serve_each_request_once_and_wait_for_more() -> None:
    async def body() -> int:
        requests = Requests(count=5)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(requests.work)
            total = 5
            for more in (0, 1, 100):
                requests.arrive(more)
                total += more
                while len(requests.served) < total:
                    await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return len(requests.served)

    assert run(body) == 106


def test_a_worker_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    async def body() -> list[int]:
        requests = Requests()
        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(3)]

            async def worker(scope: trio.CancelScope) -> None:
                with scope:
                    await requests.work()

            for scope in scopes:
                nursery.start_soon(worker, scope)
                await trio.testing.wait_all_tasks_blocked()
            scopes[1].cancel()  # of those that wait for the one at the device
            scopes[0].cancel()  # that one
            await trio.testing.wait_all_tasks_blocked()
            requests.arrive(2)
            while len(requests.served) < 2:
                await trio.lowlevel.checkpoint()
            scopes[2].cancel()
        return requests.served

    assert run(body) == [0, 0]


def test_what_is_polled_may_be_something_else_than_the_device() -> None:
    async def body() -> list[int]:
        requests, device = Requests(count=1), Requests()
        begun: list[int] = []

        def begin(descriptor: int) -> int:
            begun.append(descriptor)
            return requests.descriptor

        turns = Turns(begin)
        for _ in range(3):
            async with turns.Lock():
                await turns.lowlevel.wait_readable(device.descriptor)
        assert begun == [device.descriptor]
        return begun

    assert run(body)


def test_who_waits_is_told_that_the_device_closes() -> None:
    """With it pyfuse3 ends its session, and at the device itself nobody waits."""

    async def body() -> int:
        requests, device = Requests(), Requests()
        turns, told = Turns(lambda _: requests.descriptor), 0

        async def worker() -> None:
            nonlocal told
            try:
                async with turns.Lock():
                    if not told:  # else pyfuse3 sees that the session has ended
                        await turns.lowlevel.wait_readable(device.descriptor)
            except trio.ClosedResourceError:
                told += 1

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(worker)
            await trio.testing.wait_all_tasks_blocked()
            turns.lowlevel.notify_closing(device.descriptor)
        return told

    assert run(body) == 1


def test_the_rest_is_trio() -> None:
    turns = Turns()
    assert turns.open_nursery is trio.open_nursery
    assert turns.ClosedResourceError is trio.ClosedResourceError
    assert turns.lowlevel.current_task is trio.lowlevel.current_task
