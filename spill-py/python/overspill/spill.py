"""The buffer."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, cast
from weakref import WeakValueDictionary

import dask.sizeof
import distributed.spill
import distributed.worker_memory
from dask.sizeof import sizeof
from dask.typing import Key
from distributed.metrics import context_meter
from distributed.sizeof import safe_sizeof
from distributed.utils import RateLimiterFilter

from overspill import _native, serialize, settings
from overspill.ending import close_at_exit

if TYPE_CHECKING:
    from overspill.attached import Attached

#: Dask's own, so that its filters and handlers apply.
logger = logging.getLogger("distributed.spill")
if not any(isinstance(known, RateLimiterFilter) for known in logger.filters):
    logger.addFilter(RateLimiterFilter("Spill file on disk reached capacity"))
    logger.addFilter(RateLimiterFilter("Spill to disk failed"))


class SpilledSize(NamedTuple):
    """What spilled values weighed in memory, and the bytes of their records on disk."""

    memory: int
    disk: int

    def __add__(self, other: SpilledSize) -> SpilledSize:  # type: ignore[override]
        return SpilledSize(self.memory + other.memory, self.disk + other.disk)

    def __sub__(self, other: SpilledSize) -> SpilledSize:
        return SpilledSize(self.memory - other.memory, self.disk - other.disk)


class PickleError(TypeError):
    """A value could not be serialised. The first argument is its key."""

    @property
    def key(self) -> Key:
        """The key."""
        key: Key = self.args[0]
        return key

    def __str__(self) -> str:
        return f"Failed to pickle {self.key!r}"


#: One directory, several, or the temporary one.
Directories: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None"


class SpillBuffer(_native.Buffer, MutableMapping[Key, object]):
    """A mapping that spills the least recently used values to disk past a target, and from there to an object store.

    It stands wherever Dask's ``distributed.spill.SpillBuffer`` does: as ``data=`` of ``Worker``, ``Nanny`` and
    ``LocalCluster``, as an instance, a callable, or a (callable, keyword arguments) tuple. Built with
    ``worker_local_directory``, as Dask does then, it spills on a thread of its own, takes its target from the
    worker unless one is given, and sees to it that nothing on the worker's event loop waits for storage. Otherwise
    it spills in the caller, so that each value is where it belongs when a call returns.

    One object under several keys is one value: weighed, spilled and read once.

    Parameters
    ----------
    spill_directory:
        Where to spill: a private directory is made in it, and removed with the buffer. Of several, each best on a
        device of its own, those with more room get more, and one that fails is passed by. The temporary directory
        unless given.
    target:
        Bytes that values in memory may weigh: a number, or text like ``"4 GiB"``. Unless given,
        ``distributed.worker.memory.target`` of the worker's memory limit, or of the memory of this machine or container.
    max_spill:
        Bytes that may be on disk, a number or text, ``False`` for no limit. Unless given,
        ``distributed.worker.memory.max-spill``.
        With an ``object_store`` it bounds the files; values go there before it is reached.
    worker_local_directory:
        A worker's directory; takes the place of ``spill_directory``, unless ``overspill.directories`` does.
    compressor:
        ``adaptive``, ``none``, ``lz4`` or ``zstd:LEVEL``, each with ``+shuffle8`` or another width behind it for
        numbers. Unless given, the configuration's ``overspill.compressor``, or ``adaptive``.
    writers:
        Threads that spill behind the caller; 0 spills in the caller.
    object_store:
        Where values go that the disk has no room for, the least recently used first: ``s3://bucket/prefix``,
        ``gs://``, ``az://`` or ``file:///directory``, with credentials from the environment as of ``Objects``. They
        lie under a prefix of this buffer's own, which goes when it is closed. Unless given, the configuration's
        ``overspill.object-store``; ``False`` for none.
    as_dask:
        Whether to do as Dask where we think better of it: a value that is heavier than the target and cannot be
        serialised is forgotten where that is raised, nothing is evicted past a value that cannot be, and ``pop`` is
        refused. Otherwise the value is kept in memory, the next one is evicted, and ``pop`` works. Unless given, so
        where this class stands in the place of Dask's: in ``distributed.spill`` or ``distributed.worker_memory``.

    Raises
    ------
    PickleError
        When a value is set that is heavier than the target and cannot be serialised; a ``TypeError``. Not where
        threads spill behind the caller: then it is kept and logged.
    ValueError
        From the constructor, when a setting is not understood; the message names it and what was expected.
    OSError
        From the constructor, when the directory cannot be written.
    """

    def __init__(
        self,
        spill_directory: Directories = None,
        target: int | str | None = None,
        max_spill: int | str | Literal[False] | None = None,
        worker_local_directory: str | None = None,
        *,
        compressor: str | None = None,
        writers: int | None = None,
        object_store: str | Literal[False] | None = None,
        as_dask: bool | None = None,
    ) -> None:
        if worker_local_directory is None and target is None and max_spill is None and _in_a_loop():
            # Dask gives a worker's directory to a bare callable in the first place
            worker_local_directory = cast("str | None", spill_directory)
        #: Whether the worker's threshold becomes the target, once the worker is known.
        self._takes_workers_target = target is None
        self._attached: Attached | None = None
        if target is None:
            target = settings.target()
        if max_spill is None:
            max_spill = settings.max_spill()
        if compressor is None:
            compressor = settings.compressor()
        if object_store is None:
            object_store = settings.object_store()
        if worker_local_directory is not None:
            spill_directory = settings.directories(worker_local_directory)
        if writers is None:
            writers = settings.writers(0 if worker_local_directory is None else 1)
        if as_dask is None:
            as_dask = any(_stands_for(place.SpillBuffer, self) for place in (distributed.spill, distributed.worker_memory))
        self._as_dask = as_dask
        self._open(
            directories=_paths(spill_directory),
            target=min(settings.size("target", target), sys.maxsize),
            max_spill=None if max_spill is False else settings.size("max_spill", max_spill),
            object_store=object_store or None,
            compressor=str(compressor or "none"),
            writers=writers,
            forgets=as_dask,
            hooks=_Hooks(),
        )
        #: Views that somebody has; they have the buffer, which must not have them.
        self._views: WeakValueDictionary[type[_View], _View] = WeakValueDictionary()
        #: Its URL.
        self._object_store = object_store or None
        if self._object_store:
            close_at_exit(self, self._object_store)
        if worker_local_directory is not None:
            from overspill.attached import attach_soon

            attach_soon(self)

    def evict(self) -> int:
        """Moves one value from memory to disk: its size in memory in bytes, or -1.

        -1: nothing was lost, the value is still in memory and the problem has been logged; or, where a worker's
        memory monitor asks on the event loop, evicting goes on beside it. Never raises.
        """
        attached = self._attached
        return super().evict() if attached is None else attached.evict()

    def _evict(self) -> int:
        """``evict``, here and now."""
        return super().evict()

    def pop(self, key: Key, *default: Any) -> Any:
        """Removes a key and returns its value, which is read back if it was spilled."""
        if self._as_dask:
            raise NotImplementedError("pop reads the value back from disk; use del instead")
        return super().pop(key, *default)

    def _view(self, kind: type[V]) -> V:
        view = self._views.get(kind)
        if view is None:
            view = self._views[kind] = kind(self)
        return cast(V, view)

    @property
    def fast(self) -> _Fast:
        """The values in memory, for inspection."""
        return self._view(_Fast)

    @property
    def slow(self) -> _Slow:
        """The spilled values, for inspection."""
        return self._view(_Slow)

    @property
    def memory(self) -> _Fast:
        """The same as ``fast``."""
        return self.fast

    @property
    def disk(self) -> _Slow:
        """The same as ``slow``."""
        return self.slow

    @property
    def _slow_uncached(self) -> _Slow:
        return self.slow

    @property
    def logged_pickle_errors(self) -> set[Key]:
        """The keys whose failure to be serialised has been logged, which is done once for each value."""
        return set(self._reported())

    @property
    def spilled_total(self) -> SpilledSize:
        """What the spilled values weighed in memory, and the bytes of their records on disk."""
        return SpilledSize(*self._sizes()[3:])

    @property
    def object_store_total(self) -> SpilledSize:
        """What lies in the object store: of the spilled values those, and of what came back from there the copies."""
        return SpilledSize(*self._in_objects())

    @property
    def cumulative_metrics(self) -> dict[tuple[str, str], float]:
        """What was done so far: (label, unit) to a number. A snapshot."""
        return self._metrics()

    def __enter__(self) -> SpillBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        fast, _, slow, _, _ = self._sizes()
        return f"<{type(self).__name__}: {fast} values in memory, {slow} on disk>"


class _View(Mapping[Key, object]):
    """The values of a buffer that are in one place. Reading one moves nothing."""

    _is_fast: bool

    def __init__(self, buffer: SpillBuffer) -> None:
        self._buffer = buffer

    def __getitem__(self, key: Key) -> object:
        if key not in self:
            raise KeyError(key)
        return self._buffer.peek(key)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._buffer._keys(self._is_fast))

    def __contains__(self, key: object) -> bool:
        return self._buffer._where(key) is self._is_fast

    def __len__(self) -> int:
        return self._buffer._sizes()[0 if self._is_fast else 2]


class _Fast(_View):
    """The values in memory."""

    _is_fast = True

    @property
    def weights(self) -> dict[Key, int]:
        """What each weighs, in bytes."""
        return {key: self._buffer._weight(key) for key in self}

    @property
    def total_weight(self) -> int:
        """What all weigh, in bytes."""
        return self._buffer._sizes()[1]


class _Slow(_View):
    """The spilled values."""

    _is_fast = False

    @property
    def weight_by_key(self) -> dict[Key, SpilledSize]:
        """What each weighed in memory, and the bytes of its record."""
        return {key: SpilledSize(*self._buffer._stored(key)) for key in self}

    @property
    def total_weight(self) -> SpilledSize:
        """The sums of ``weight_by_key``."""
        return self._buffer.spilled_total


V = TypeVar("V", bound=_View)


class _Hooks:
    """What the native half calls."""

    weigh = staticmethod(safe_sizeof)
    loads = staticmethod(serialize.loads)
    #: Who listens to what a call does: Dask's meter of the current context.
    listeners = context_meter._callbacks.get

    def __init__(self) -> None:
        #: What ``bytes`` weigh beyond their length, unless somebody registered another function for them.
        self.bytes_extra = sizeof(b"") if _weigher(bytes) is _OF_BYTES else None

    @staticmethod
    def dumps(value: object) -> list[Any]:
        return serialize.dumps(value)

    @staticmethod
    def metered(figures: list[tuple[str, float, str]]) -> None:
        """Books what a call did to whoever listens."""
        for label, value, unit in figures:
            context_meter.digest_metric(label, value, unit)

    @staticmethod
    def refused(key: Key, error: BaseException) -> PickleError:
        """What is raised where a value cannot be serialised."""
        raised = PickleError(key)
        raised.__cause__ = error
        return raised

    @staticmethod
    def failed(key: Key, error: BaseException, pickling: bool) -> None:
        """A value was not spilled, and is still in memory. Which, is said where it could not be serialised."""
        if pickling:
            logger.error("Failed to pickle %r", key, exc_info=error)
        elif "max_spill" in str(error):
            logger.warning("Spill file on disk reached capacity; keeping data in memory")
        else:
            logger.error("Spill to disk failed; keeping data in memory", exc_info=error)


#: What weighs a type; it has no annotations.
_weigher: Callable[[type], Any] = sizeof.dispatch
#: What weighs ``bytes`` of Dask's own accord.
_OF_BYTES = getattr(dask.sizeof, "sizeof_bytes", None)


def _stands_for(place: object, buffer: SpillBuffer) -> bool:
    """Whether what Dask makes its buffers with is the buffer's class; it may be any callable."""
    return isinstance(place, type) and isinstance(buffer, place)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _paths(given: Directories) -> list[str]:
    if given is None:
        return []
    if isinstance(given, (str, os.PathLike)):
        return [os.fspath(given)]
    return [os.fspath(path) for path in given]
