"""A buffer that knows its worker: nothing on the worker's event loop waits for storage.

- Inputs of a task that were spilled are read on a thread before Dask's own ``Worker.execute`` looks at them, those
  of the next task in line while the others run; likewise what another worker asks for.
- The memory monitor of the worker calls ``evict`` on the loop. After some milliseconds of that the rest is done on
  a thread, down to the same threshold.
- What the threads read and write shows in the task stream and in the fine performance metrics.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from dask.typing import Key
from dask.utils import key_split
from distributed.core import context_meter_to_server_digest
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.utils import run_in_executor_with_context
from tornado.ioloop import PeriodicCallback

from overspill.ending import left_behind

if TYPE_CHECKING:
    from distributed import Worker

    from overspill.spill import SpillBuffer

logger = logging.getLogger("overspill")

#: The name among the worker's plugins.
NAME = "overspill-buffer"

#: The name of the task in which Dask's memory monitor spills.
MONITOR = "memory-monitor-spill"

#: Seconds that evictions may take of one turn of the event loop.
TURN = 0.005

#: Milliseconds between two looks at what the buffer's threads did.
BOOKING = 200

#: Seconds that a closing worker waits for its objects to go: one that a nanny kills 4 seconds after it asked it to
#: end, and any other.
CLOSING_UNDER_NANNY = 3
CLOSING = 20

#: What the task stream shows: shorter work is not drawn, as Dask has it.
SHOWN = 0.005


class Attached(WorkerPlugin):
    """The bond between a worker and its buffer."""

    def __init__(self, worker: Worker, buffer: SpillBuffer) -> None:
        self._worker = worker
        self._buffer = buffer
        self._loop_thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(max(2, worker.state.nthreads), thread_name_prefix="overspill-read")
        self._evictor = ThreadPoolExecutor(1, thread_name_prefix="overspill-evict")
        #: What the evictor does beyond the turn that began it.
        self._evicting: Future[Any] | None = None
        self._spent = 0.0
        #: Tasks whose inputs are being read ahead, or were.
        self._ahead: set[Key] = set()
        self._closed = False

    def attach(self) -> None:
        """Takes its places in the worker."""
        worker = self._worker
        worker.plugins[NAME] = self
        # a handler and a method of this one worker; its class stays as it is
        self._execute = worker.execute
        worker.execute = self._reading_first(worker.execute)  # type: ignore[method-assign]
        self._get_data = worker.handlers["get_data"]
        worker.handlers["get_data"] = self._reading_for_others(self._get_data)
        booking = PeriodicCallback(self._book, BOOKING)
        worker.periodic_callbacks[NAME] = booking
        booking.start()

    def teardown(self, worker: Worker) -> Any:
        """Gives its places back. With the worker go the objects in a store, which is waited for a while."""
        self._closed = True
        booking = worker.periodic_callbacks.pop(NAME, None)
        if booking is not None:
            booking.stop()
        worker.execute = self._execute  # type: ignore[method-assign]
        worker.handlers["get_data"] = self._get_data
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._evictor.shutdown(wait=False, cancel_futures=True)
        self._buffer._attached = None
        return self._close() if self._buffer._object_store else None

    async def _close(self) -> None:
        closing = asyncio.ensure_future(asyncio.to_thread(self._buffer.close))
        patience = CLOSING if self._worker.nanny is None else CLOSING_UNDER_NANNY
        done, _ = await asyncio.wait([closing], timeout=patience)
        problem = closing.exception() if done else TimeoutError(f"not done within {patience} seconds")
        if problem is not None:
            left_behind(self._buffer._object_store, problem)

    # Reading

    def _spilled(self, keys: Iterable[Key]) -> list[Key]:
        where = self._buffer._where
        return [key for key in keys if where(key) is False]

    def _read(self, keys: list[Key]) -> list[Any]:
        """The values of keys that are still there. On a thread."""
        values = []
        for key in keys:
            try:
                values.append(self._buffer[key])
            except Exception:  # whoever needs it gets the error from its own read
                continue
        return values

    def _reading_first(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """``execute`` after the spilled inputs of its task were read."""

        @functools.wraps(execute)
        async def reading_first(key: Key, *, stimulus_id: str) -> Any:
            self._ahead.discard(key)
            task = self._worker.state.tasks.get(key)
            inputs = [] if task is None else self._spilled(i.key for i in task.dependencies)
            # held until Dask has taken them, in case they are too heavy to stay in memory
            values = None
            if task is not None and inputs and not self._closed:
                start = time()
                values = await run_in_executor_with_context(self._reader, self._read, inputs)
                stop = time()
                if stop - start > SHOWN:
                    task.startstops.append({"action": "disk-read", "start": start, "stop": stop})
            done = execute(key, stimulus_id=stimulus_id)
            result = await done
            del values
            return result

        return reading_first

    def _reading_for_others(self, get_data: Callable[..., Any]) -> Callable[..., Any]:
        """``get_data`` after the spilled values among its keys were read."""

        @context_meter_to_server_digest("get-data")
        async def read(_: Worker, keys: list[Key]) -> list[Any]:
            values: list[Any] = await run_in_executor_with_context(self._reader, self._read, keys)
            return values

        @functools.wraps(get_data)
        async def reading_first(*args: Any, **kwargs: Any) -> Any:
            keys = self._spilled(kwargs.get("keys", ()))
            values = await read(self._worker, keys) if keys and not self._closed else None
            result = await get_data(*args, **kwargs)
            del values
            return result

        return reading_first

    def transition(self, key: Key, start: str, finish: str, **kwargs: Any) -> None:
        """A task begins to run: the inputs of the next in line are read meanwhile."""
        if finish != "executing" or self._closed:
            return
        ready = self._worker.state.ready
        if not ready:
            return
        task = ready.peek()
        if task.key in self._ahead:
            return
        inputs = self._spilled(i.key for i in task.dependencies)
        if inputs:
            self._ahead.add(task.key)
            self._reader.submit(self._read_ahead, task, inputs)

    def _read_ahead(self, task: Any, keys: list[Key]) -> None:
        figures: list[tuple[Any, float, str]] = []
        start = time()
        with _meter(lambda label, value, unit: figures.append((label, value, unit))):
            self._read(keys)
        self._on_loop(self._book_read, task, start, time(), figures)

    def _book_read(self, task: Any, start: float, stop: float, figures: list[tuple[Any, float, str]]) -> None:
        self._ahead.discard(task.key)
        if stop - start > SHOWN:
            task.startstops.append({"action": "disk-read", "start": start, "stop": stop})
        for label, value, unit in figures:
            self._worker.digest_metric(("execute", task.span_id, key_split(task.key), label, unit), value)

    # Evicting

    def evict(self) -> int:
        """``SpillBuffer.evict`` for the worker's memory monitor.

        For anybody else it is done there and then. The monitor, which runs on the loop, waits until evictions have
        taken ``TURN`` in this turn of the loop; then the answer is -1, which ends its round, and the evictor goes
        on by itself.
        """
        buffer = self._buffer
        if self._closed or threading.get_ident() != self._loop_thread or not _is_monitor():
            return buffer._evict()
        if self._evicting is not None and not self._evicting.done():
            return -1
        if self._spent == 0.0:
            self._loop.call_soon(self._end_turn)
        begun = perf_counter()
        eviction = self._evictor.submit(buffer._evict)
        try:
            return eviction.result(max(0.0, TURN - self._spent))
        except NotDone:
            self._evicting = self._evictor.submit(self._evict_on)
            return -1
        finally:
            self._spent += perf_counter() - begun

    def _end_turn(self) -> None:
        self._spent = 0.0

    def _evict_on(self) -> None:
        """Evicts until process memory is where the worker's memory monitor wants it."""
        manager = self._worker.memory_manager
        part = manager.memory_target_fraction or manager.memory_spill_fraction
        if not manager.memory_limit or not part:
            return
        goal = manager.memory_limit * part
        memory = self._worker.monitor.get_process_memory
        need, moved = memory() - goal, 0
        while not self._closed and memory() > goal:
            if moved > need:
                # what is left is garbage, or none of ours; the monitor's next round sees to it
                return
            weight = self._buffer._evict()
            if weight < 0:
                return
            moved += weight

    # Booking

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed
            pass

    def _book(self) -> None:
        """Books what the buffer's threads did lately: to the worker, and in the task stream to a task that runs."""
        done = self._buffer._behind()
        if done is None:
            return
        began, ended, figures = done
        seconds = 0.0
        for label, value, unit in figures:
            self._worker.digest_metric(("memory-monitor", label, unit), value)
            if unit == "seconds":
                seconds += value
        running = next(iter(self._worker.state.executing), None)
        if running is not None and seconds > SHOWN:
            now = time()
            running.startstops.append(
                {"action": "disk-write", "start": now - min(began, ended + seconds), "stop": now - ended}
            )


def _is_monitor() -> bool:
    """Whether the worker's memory monitor is calling. On the loop's thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.get_name() == MONITOR


def _meter(callback: Callable[[Any, float, str], None]) -> Any:
    from distributed.metrics import context_meter

    return context_meter.add_callback(callback)


def attach(worker: Worker, buffer: SpillBuffer) -> None:
    """Lets a buffer know its worker, on the worker's event loop. Done twice, it does nothing."""
    if buffer._attached is not None:
        return
    if buffer._takes_workers_target:
        manager = worker.memory_manager
        part = manager.memory_target_fraction
        buffer.target = int(manager.memory_limit * part) if part and manager.memory_limit else sys.maxsize
    buffer._attached = Attached(worker, buffer)
    buffer._attached.attach()


def attach_soon(buffer: SpillBuffer) -> None:
    """Attaches a buffer that a worker is just making, once that is done."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return

    def find() -> None:
        from distributed import Worker

        for worker in list(Worker._instances):
            if getattr(worker, "memory_manager", None) is not None and worker.data is buffer:
                attach(worker, buffer)

    loop.call_soon(find)
