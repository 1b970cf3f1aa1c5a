"""Runs that ask a daemon at one time: whose question the store is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from gridfs.errors import StoreUnavailable
from gridfs.model import Mode, Version, VersionSpec
from gridfs.mount.attendant import SharedQuestions
from tests.support.on_trio import on_trio

SPEC = VersionSpec("data")


class Store:
    """Answers the n-th question with version n, when it is allowed to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = trio.Event()

    async def resolve(self, spec: VersionSpec) -> Version:
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        return Version(spec.name, number, "", "/data/set", Mode.COPY, 3, 1, 0, 300, "key", "0" * 64, 4096)


def asking(store: Store) -> tuple[Callable[[], Awaitable[None]], list[int]]:
    """Asks once for the highest version, and the answers of all who have asked so."""
    questions = SharedQuestions(store.resolve)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await questions.ask(SPEC)).version)

    return ask, answers


@on_trio
async def test_those_who_come_before_a_question_has_begun_share_it() -> None:
    store = Store()
    ask, answers = asking(store)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()  # the first question is on its way, and too old for who comes now
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        store.may_answer.set()
    assert sorted(answers) == [1, 2, 2, 2, 2, 2]
    assert store.asked == 2


@on_trio
async def test_who_comes_alone_asks_anew() -> None:
    store = Store()
    store.may_answer.set()
    questions = SharedQuestions(store.resolve)
    assert [(await questions.ask(SPEC)).version for _ in range(3)] == [1, 2, 3]


@on_trio
async def test_another_datastore_is_another_question() -> None:
    store = Store()
    store.may_answer.set()
    questions = SharedQuestions(store.resolve)
    names: list[str] = []

    async def ask(name: str) -> None:
        names.append((await questions.ask(VersionSpec(name))).name)

    async with trio.open_nursery() as nursery:
        for name in "a", "b":
            nursery.start_soon(ask, name)
    assert sorted(names) == ["a", "b"]


@on_trio
async def test_a_failure_is_each_ones_own() -> None:
    asked: list[VersionSpec] = []

    async def resolve(spec: VersionSpec) -> Version:
        asked.append(spec)
        await trio.testing.wait_all_tasks_blocked()
        raise StoreUnavailable("it is down")

    questions = SharedQuestions(resolve)
    failures: list[str] = []

    async def ask() -> None:
        with pytest.raises(StoreUnavailable):
            await questions.ask(SPEC)
        failures.append("failed")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert failures == ["failed"] * 3


@on_trio
async def test_one_that_is_cancelled_leaves_the_others_their_answer() -> None:
    store = Store()
    ask, answers = asking(store)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as impatient:
                impatient.start_soon(ask)  # the asker of the second question
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        store.may_answer.set()
    assert len(answers) == 2
