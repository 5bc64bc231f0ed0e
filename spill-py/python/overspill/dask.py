"""Overspill in the workers of a cluster, without a change of code.

As a preload, for each worker that starts::

    dask worker tcp://scheduler:8786 --preload overspill.dask

or in the configuration::

    distributed:
      worker:
        preload: [overspill.dask]

As a plugin, for the workers that run and those that come; the data that they hold moves along::

    from overspill.dask import Spill

    client.register_plugin(Spill())

Both follow ``distributed.worker.memory``: a worker without a memory limit, or with ``target`` and ``spill`` both
``False``, keeps its data in a plain dictionary.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Literal

from dask.typing import Key
from distributed.diagnostics.plugin import WorkerPlugin

from overspill.attached import attach
from overspill.spill import SpillBuffer

if TYPE_CHECKING:
    from distributed import Worker

logger = logging.getLogger("overspill")


async def dask_setup(worker: Any) -> None:
    """Called by Dask when the module is preloaded in a worker; a nanny or scheduler is left alone."""
    if hasattr(worker, "memory_manager") and hasattr(worker, "state"):
        await install(worker)


class Spill(WorkerPlugin):
    """Gives each worker a ``SpillBuffer``, and moves what the worker holds into it.

    Parameters
    ----------
    target:
        Bytes that values in memory may weigh. Unless given, the worker's own target threshold.
    max_spill:
        Bytes that may be on disk, ``False`` for no limit. Unless given, the worker's own.
    compressor, writers, object_store:
        As of ``SpillBuffer``.

    The directories are ``overspill.directories``, or the worker's local directory.
    """

    name = "overspill"
    idempotent = True

    def __init__(
        self,
        *,
        target: int | str | None = None,
        max_spill: int | str | Literal[False] | None = None,
        compressor: str | None = None,
        writers: int | None = None,
        object_store: str | Literal[False] | None = None,
    ) -> None:
        self._settings: dict[str, Any] = {
            "target": target,
            "max_spill": max_spill,
            "compressor": compressor,
            "writers": writers,
            "object_store": object_store,
        }

    async def setup(self, worker: Worker) -> None:
        """Installs the buffer in a worker."""
        await install(worker, **self._settings)


async def install(
    worker: Worker,
    *,
    target: int | str | None = None,
    max_spill: int | str | Literal[False] | None = None,
    compressor: str | None = None,
    writers: int | None = None,
    object_store: str | Literal[False] | None = None,
) -> SpillBuffer | None:
    """Puts a ``SpillBuffer`` in the place of a worker's data, which moves into it.

    On the worker's event loop, which goes on meanwhile: what the worker spilled before is read on a thread.
    Returns the buffer, or ``None`` where the worker is not to spill.
    """
    manager = worker.memory_manager
    if isinstance(manager.data, SpillBuffer):
        attach(worker, manager.data)
        return manager.data
    part = manager.memory_target_fraction
    if target is None:
        if not manager.memory_limit or not (part or manager.memory_spill_fraction):
            return None
        target = int(manager.memory_limit * part) if part else sys.maxsize
    buffer = SpillBuffer(
        worker_local_directory=worker.local_directory,
        target=target,
        max_spill=manager.max_spill if max_spill is None else max_spill,
        compressor=compressor,
        writers=writers,
        object_store=object_store,
    )
    old = manager.data
    await _move(old, buffer)
    manager.data = buffer
    worker.state.data = buffer
    attach(worker, buffer)
    # its files go on a thread
    await asyncio.to_thread(_empty, old)
    logger.info("%s spills with Overspill; %d values moved", worker.name, len(buffer))
    return buffer


async def _move(old: MutableMapping[Key, object], new: SpillBuffer) -> None:
    """Copies all pairs. When it returns, and until the loop goes on, both hold the same."""
    slow = getattr(old, "slow", None)
    moved: set[Key] = set()
    if slow is not None:
        # Values are never replaced under a key that stays, so what was read once need not be read again.
        for key in list(slow):
            try:
                value = await asyncio.to_thread(_read, old, key)
            except KeyError:
                continue  # it went meanwhile
            new[key] = value
            moved.add(key)
            del value
    for key in moved - set(old):
        del new[key]
    for key in list(old):
        if key not in moved:
            new[key] = old[key]


def _read(old: MutableMapping[Key, object], key: Key) -> object:
    """A spilled value, left where it is."""
    slow: Any = getattr(old, "_slow_uncached", None)
    return old[key] if slow is None else slow[key]


def _empty(old: MutableMapping[Key, object]) -> None:
    for key in list(old):
        del old[key]


__all__ = ["Spill", "dask_setup", "install"]
