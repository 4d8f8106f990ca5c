"""The one event loop of the process that sync clients live in, in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

from bus_client.channel import FORKED

_PATIENCE = 2.0  # seconds for a cancelled call to end, and for the loop to do so at exit
_LOOK = 0.5  # seconds between two looks for an interrupt that was missed
_GATHER, _GATHERED = 0.005, 100  # seconds and items that are taken at a time
_END: Final = object()
_EXITING = "The process is exiting."
_INSIDE = "A sync client cannot be used from within its own event loop."

P = ParamSpec("P")
T = TypeVar("T")


class _Call(Generic[T]):
    """A coroutine to be run by the loop, where all methods are called."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Future[T] = Future()
        self._start = start
        self._task: asyncio.Task[T] | None = None
        self._interrupted = False

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._start())
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            # Else the process is exiting: only a daemon thread still waits, and ends with it.
            if self._interrupted:
                self.outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class Background:
    """A running event loop."""

    def __init__(self) -> None:
        self._process = os.getpid()
        # With a factory, else it would become the loop of the thread that makes it.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._exit = asyncio.Event()
        self._exiting = False
        self._thread = threading.Thread(target=self._serve, name="bus_client.sync", daemon=True)
        self._thread.start()

    def refusal(self) -> str | None:
        """Why the caller cannot wait for the loop, if so."""
        if os.getpid() != self._process:
            return FORKED
        if self._exiting:
            return _EXITING
        if threading.get_ident() == self._thread.ident:  # as in a finaliser
            return _INSIDE
        return None

    def run(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Starts a coroutine and waits for it. An interrupt of the waiting thread cancels it."""
        if refusal := self.refusal():
            raise RuntimeError(refusal)
        call = _Call(start)
        try:
            self._loop.call_soon_threadsafe(call.begin)
            while not call.outcome.done():
                # A signal that comes just before a thread goes to sleep does not wake it.
                with suppress(TimeoutError):
                    call.outcome.exception(timeout=_LOOK)
            return call.outcome.result()
        except BaseException:
            if not call.outcome.done():  # it is not what the coroutine raised
                self._loop.call_soon_threadsafe(call.cancel)
                # Nothing of it is to happen after the interrupt was seen.
                wait([call.outcome], _PATIENCE)
            raise
        finally:
            del call  # the traceback holds this frame, and the call would hold the traceback

    def exit(self) -> None:
        """Ends the loop and all that runs in it, before the interpreter stops its thread."""
        if self.refusal() is None:
            self._exiting = True
            self._loop.call_soon_threadsafe(self._exit.set)
            self._thread.join(_PATIENCE)

    def _serve(self) -> None:
        with self._runner:
            self._runner.run(self._until_exit())

    async def _until_exit(self) -> None:
        await self._exit.wait()


_starting = threading.Lock()
_shared: Background | None = None


def run(method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """What an async method returns or raises."""
    return _background().run(partial(method, *args, **kwargs))


def finish(
    method: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Runs an async method that cleans up, unless there is no need.

    A forked process has nothing of its own to clean up, and one that exits has nothing left. What
    is dropped inside the event loop the loop cleans up by itself.
    """
    if _shared is not None and _shared.refusal() is None:
        _shared.run(partial(method, *args, **kwargs))


def iterate(
    method: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs
) -> Generator[T]:
    """What an async method's iterator yields; closing the generator closes it."""
    source = method(*args, **kwargs)
    try:
        while (item := run(_next, source)) is not _END:
            yield item  # type: ignore[misc]
    finally:
        finish(_close, source)


async def apart(items: Iterable[T]) -> AsyncGenerator[T]:
    """Items that are taken in a worker thread, as taking them may block; some at a time."""
    source = iter(items)

    def some() -> list[T]:
        found, end = [], time.monotonic() + _GATHER
        for item in source:
            found.append(item)
            if len(found) == _GATHERED or time.monotonic() >= end:
                break
        return found

    while found := await asyncio.to_thread(some):
        for item in found:
            yield item


async def assign(owner: object, attribute: str, value: object) -> None:
    """Sets an attribute: for run(), as what is in the loop may use it at this moment."""
    setattr(owner, attribute, value)


async def _next(source: AsyncIterator[T]) -> T | object:
    return await anext(source, _END)


async def _close(source: AsyncIterator[T]) -> None:
    if isinstance(source, AsyncGenerator):
        await source.aclose()


def _background() -> Background:
    global _shared
    if _shared is None:
        with _starting:
            if _shared is None:
                _shared = Background()
    return _shared


@atexit.register
def _exit() -> None:
    if _shared is not None:
        _shared.exit()
