"""The buffer."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Literal, NamedTuple

import dask
import dask.sizeof
from dask.sizeof import sizeof
from dask.typing import Key
from dask.utils import parse_bytes
from distributed.sizeof import safe_sizeof
from distributed.system import MEMORY_LIMIT

from overspill import _native, serialize

#: Dask's own, so that its filters and handlers apply.
logger = logging.getLogger("distributed.spill")


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

    def __str__(self) -> str:
        return f"Failed to pickle {self.args[0]!r}"


class SpillBuffer(_native.Buffer, MutableMapping[Key, object]):
    """A mapping that spills the least recently used values to disk past a target.

    It stands wherever Dask's ``distributed.spill.SpillBuffer`` does: as ``data=`` of ``Worker``, ``Nanny`` and
    ``LocalCluster``, as an instance, a callable, or a (callable, keyword arguments) tuple. Built with
    ``worker_local_directory``, as Dask does then, it spills on a thread of its own; otherwise in the caller, so
    that each value is where it belongs when a call returns.

    Parameters
    ----------
    spill_directory:
        Where to spill: a private directory is made in it, and removed with the buffer. The temporary directory
        unless given.
    target:
        Bytes that values in memory may weigh. Unless given, ``distributed.worker.memory.target`` of the memory
        of this machine or container.
    max_spill:
        Bytes that may be on disk, ``False`` for no limit. Unless given, ``distributed.worker.memory.max-spill``.
    worker_local_directory:
        A worker's directory; takes the place of ``spill_directory``.
    compressor:
        ``adaptive``, ``none``, ``lz4`` or ``zstd:LEVEL``. Unless given, the configuration's
        ``overspill.compressor``, or ``adaptive``.
    writers:
        Threads that spill behind the caller; 0 spills in the caller.
    as_dask:
        Whether a value that is heavier than the target and cannot be serialised is forgotten when that is
        raised, and ``pop`` is refused, as Dask does. Otherwise the value is kept in memory, and ``pop`` works.

    Raises
    ------
    TypeError
        When a value is set that is heavier than the target and cannot be serialised.
    """

    def __init__(
        self,
        spill_directory: str | None = None,
        target: int | None = None,
        max_spill: int | Literal[False] | None = None,
        worker_local_directory: str | None = None,
        *,
        compressor: str | None = None,
        writers: int | None = None,
        as_dask: bool = False,
    ) -> None:
        if target is None:
            target = _default_target()
        if max_spill is None:
            setting = dask.config.get("distributed.worker.memory.max-spill", False)
            max_spill = False if setting is False else parse_bytes(setting)
        if compressor is None:
            compressor = dask.config.get("overspill.compressor", "adaptive")
        if writers is None:
            behind = 0 if worker_local_directory is None else 1
            writers = int(dask.config.get("overspill.writers", behind))
        #: Keys whose failure to be serialised has been logged.
        self.logged_pickle_errors: set[Key] = set()
        self._as_dask = as_dask
        self._open(
            directory=worker_local_directory or spill_directory,
            target=min(int(target), sys.maxsize),
            max_spill=None if max_spill is False else int(max_spill),
            compressor=str(compressor or "none"),
            writers=writers,
            forgets=as_dask,
            hooks=_Hooks(self.logged_pickle_errors),
        )
        self._fast = _Fast(self)
        self._slow = _Slow(self)

    def pop(self, key: Key, *default: Any) -> Any:
        """Removes a key and returns its value, which is read back if it was spilled."""
        if self._as_dask:
            raise NotImplementedError("pop reads the value back from disk; use del instead")
        return super().pop(key, *default)

    @property
    def fast(self) -> _Fast:
        """The values in memory, for inspection."""
        return self._fast

    @property
    def slow(self) -> _Slow:
        """The spilled values, for inspection."""
        return self._slow

    @property
    def memory(self) -> _Fast:
        """The same as ``fast``."""
        return self._fast

    @property
    def disk(self) -> _Slow:
        """The same as ``slow``."""
        return self._slow

    @property
    def _slow_uncached(self) -> _Slow:
        return self._slow

    @property
    def spilled_total(self) -> SpilledSize:
        """What the spilled values weighed in memory, and the bytes of their records on disk."""
        return SpilledSize(*self._sizes()[3:])

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


class _Hooks:
    """What the native half calls."""

    weigh = staticmethod(safe_sizeof)
    loads = staticmethod(serialize.loads)

    def __init__(self, logged: set[Key]) -> None:
        self._logged = logged
        #: What ``bytes`` weigh beyond their length, unless somebody registered another function for them.
        self.bytes_extra = sizeof(b"") if _weigher(bytes) is _OF_BYTES else None

    @staticmethod
    def dumps(value: object) -> list[Any]:
        return serialize.dumps(value)

    def failed(self, key: Key, error: BaseException) -> None:
        """A spill failed, and the value is still in memory."""
        if isinstance(error, OSError):
            if "max_spill" in str(error):
                logger.warning("Spill file on disk reached capacity; keeping data in memory")
            else:
                logger.error("Spill to disk failed; keeping data in memory", exc_info=error)
        elif key not in self._logged:
            self._logged.add(key)
            logger.error("Failed to pickle %r", key, exc_info=error)


#: What weighs a type; it has no annotations.
_weigher: Callable[[type], Any] = sizeof.dispatch
#: What weighs ``bytes`` of Dask's own accord.
_OF_BYTES = getattr(dask.sizeof, "sizeof_bytes", None)


def _default_target() -> int:
    fraction = dask.config.get("distributed.worker.memory.target", 0.6)
    return int(MEMORY_LIMIT * fraction) if fraction else sys.maxsize
