"""Pausing: a property of one thread or task, not of the process."""

from __future__ import annotations

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async

from synchro import DisableSynchroLog, disable_synchro_log
from synchro.pausing import is_paused


def test_as_a_context_manager() -> None:
    assert not is_paused()
    with DisableSynchroLog():
        assert is_paused()
    assert not is_paused()


def test_it_nests() -> None:
    pause = DisableSynchroLog()
    with pause:
        with DisableSynchroLog():
            pass
        assert is_paused()
        with pause:
            pass
        assert is_paused()
    assert not is_paused()


def test_it_ends_with_an_exception() -> None:
    with pytest.raises(ValueError, match="Oh"), DisableSynchroLog():
        raise ValueError("Oh")

    assert not is_paused()


def test_as_a_decorator() -> None:
    @disable_synchro_log
    def answer(question: str, *, loud: bool = False) -> str:
        """Say whether the log is paused."""
        assert is_paused()
        return f"{question} {loud}"

    assert answer("Paused?", loud=True) == "Paused? True"
    assert not is_paused()
    assert (answer.__name__, answer.__doc__) == ("answer", "Say whether the log is paused.")


def test_as_a_decorator_of_a_coroutine() -> None:
    @disable_synchro_log
    async def answer() -> bool:
        await asyncio.sleep(0)
        return is_paused()

    async def main() -> tuple[bool, bool]:
        return await answer(), is_paused()

    assert asyncio.run(main()) == (True, False)


def test_other_threads_go_on_logging() -> None:
    seen: list[bool] = []
    with DisableSynchroLog():
        thread = threading.Thread(target=lambda: seen.append(is_paused()))
        thread.start()
        thread.join()

    assert seen == [False]


def test_tasks_do_not_pause_each_other() -> None:
    async def paused(inside: asyncio.Event, checked: asyncio.Event) -> bool:
        with DisableSynchroLog():
            inside.set()
            await checked.wait()
            return is_paused()

    async def other(inside: asyncio.Event, checked: asyncio.Event) -> bool:
        await inside.wait()
        state = is_paused()
        checked.set()
        return state

    async def main() -> tuple[bool, bool]:
        inside, checked = asyncio.Event(), asyncio.Event()
        first, second = await asyncio.gather(paused(inside, checked), other(inside, checked))
        return first, second

    assert asyncio.run(main()) == (True, False)


def test_it_follows_sync_to_async_and_to_thread() -> None:
    async def main() -> list[bool]:
        with DisableSynchroLog():
            return [await sync_to_async(is_paused)(), await asyncio.to_thread(is_paused)]

    assert asyncio.run(main()) == [True, True]
