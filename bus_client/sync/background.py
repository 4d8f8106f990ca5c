"""The background thread with the event loop that runs all sync clients of the process."""

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
from contextlib import closing, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

from bus_client.channel import FORKED
from bus_client.traces import adopt

_END_TIMEOUT = 2.0  # seconds for a cancelled call to end, and for the loop to end at exit
_INTERRUPT_POLL = 0.5  # seconds between two checks for a missed interrupt
_CHUNK_SECONDS, _CHUNK_ITEMS = 0.005, 100  # taken from an iterable at a time
_END: Final = object()
_EXITING = "The process is exiting."
_INSIDE = "A sync client cannot be used from within its own event loop."

P = ParamSpec("P")
T = TypeVar("T")


class _Call(Generic[T]):
    """A coroutine that runs in the loop. All methods must be called in the loop's thread."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]], context: Context) -> None:
        """`context`: what the coroutine runs in."""
        self.outcome: Future[T] = Future()
        self._context = context
        self._start = start
        self._task: asyncio.Task[T] | None = None
        self._interrupted = False

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._start(), context=self._context)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            # If it was not interrupted, the process is exiting: nobody but a daemon thread waits.
            if self._interrupted:
                self.outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class Background:
    """An event loop that runs in a thread of its own, from creation to exit()."""

    def __init__(self) -> None:
        self._process = os.getpid()
        # Without a factory, the loop would become the calling thread's current loop.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._exit = asyncio.Event()
        self._exiting = False
        self._thread = threading.Thread(target=self._serve, name="bus_client.sync", daemon=True)
        self._thread.start()

    def refusal(self) -> str | None:
        """Returns why the caller cannot wait for the loop; None if it can."""
        if os.getpid() != self._process:
            return FORKED
        if self._exiting:
            return _EXITING
        if threading.get_ident() == self._thread.ident:  # as in a finaliser
            return _INSIDE
        return None

    def run(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Returns or raises what a coroutine does. An interrupt of the calling thread cancels it.

        Raises:
            RuntimeError: refusal() is not None.
        """
        if refusal := self.refusal():
            raise RuntimeError(refusal)
        context = copy_context()
        call = _Call(start, context)
        try:
            self._loop.call_soon_threadsafe(call.begin)
            while not call.outcome.done():
                # A signal that arrives just before the thread sleeps does not wake it.
                with suppress(TimeoutError):
                    call.outcome.exception(timeout=_INTERRUPT_POLL)
            result = call.outcome.result()
            adopt(context)
            return result
        except BaseException:
            if not call.outcome.done():  # this thread was interrupted; the coroutine has not raised
                self._loop.call_soon_threadsafe(call.cancel)
                # Wait, so that the call has no effect after the interrupt is raised.
                wait([call.outcome], _END_TIMEOUT)
            raise
        finally:
            del call  # breaks a reference cycle of the traceback, this frame, and the call

    def exit(self) -> None:
        """End the loop and its tasks, waiting at most 2 s. Call it when the interpreter exits."""
        if self.refusal() is None:
            self._exiting = True
            self._loop.call_soon_threadsafe(self._exit.set)
            self._thread.join(_END_TIMEOUT)

    def _serve(self) -> None:
        with self._runner:
            self._runner.run(self._until_exit())

    async def _until_exit(self) -> None:
        await self._exit.wait()


_starting = threading.Lock()
_shared: Background | None = None


def run(method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an async method, and block until it ends. Returns its result or raises its error.

    Raises:
        RuntimeError: The process was forked or is exiting, or this is the loop's own thread.
    """
    return _background().run(partial(method, *args, **kwargs))


def finish(
    method: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Run an async method that cleans up. No-op where run() would raise RuntimeError.

    A forked process has nothing to clean up, an exiting one has nothing left, and asyncio closes
    objects that are dropped in the loop's own thread.
    """
    if _shared is not None and _shared.refusal() is None:
        _shared.run(partial(method, *args, **kwargs))


def iterate(
    method: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs
) -> Generator[T]:
    """Yields the items of an async method's iterator. Closing the generator closes the iterator.

    Raises:
        RuntimeError: As in run().
    """
    source = method(*args, **kwargs)
    try:
        while (item := run(_next, source)) is not _END:
            yield item  # type: ignore[misc]
    finally:
        finish(_close, source)


def iterate_batches(
    method: Callable[P, AsyncIterator[Iterable[T]]], *args: P.args, **kwargs: P.kwargs
) -> Generator[T]:
    """Yields the items of the batches of an async method's iterator, as iterate() does.

    The loop's thread is asked for each batch, not for each item, which would take 70 µs.
    """
    with closing(iterate(method, *args, **kwargs)) as batches:
        for batch in batches:
            yield from batch


async def in_worker_thread(items: Iterable[T]) -> AsyncGenerator[T]:
    """Yields the items of an iterable that may block, reading it in a worker thread."""
    source = iter(items)

    def chunk() -> list[T]:
        found, end = [], time.monotonic() + _CHUNK_SECONDS
        for item in source:
            found.append(item)
            if len(found) == _CHUNK_ITEMS or time.monotonic() >= end:
                break
        return found

    while found := await asyncio.to_thread(chunk):
        for item in found:
            yield item


async def assign(owner: object, attribute: str, value: object) -> None:
    """Set an attribute in the loop's thread, so that it does not change while the loop uses it."""
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
