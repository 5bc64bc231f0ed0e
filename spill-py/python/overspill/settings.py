"""What the configuration says: Dask's ``distributed.worker.memory.*``, and our own ``overspill.*``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Literal

import dask.config
from dask.utils import parse_bytes
from distributed.system import MEMORY_LIMIT

logger = logging.getLogger("overspill")

#: Dask's names of compressions that have one of ours.
_COMPRESSORS = {"auto": "adaptive", "lz4": "lz4", "zstd": "zstd:3"}


def memory(name: str, default: Any) -> Any:
    """A setting of ``distributed.worker.memory``."""
    return dask.config.get(f"distributed.worker.memory.{name}", default)


def fraction(name: str, default: float) -> float | Literal[False]:
    """A threshold of ``distributed.worker.memory``: a fraction of the limit, or ``False`` for none."""
    value = memory(name, default)
    return False if value is False or value is None else float(value)


def target(limit: int = MEMORY_LIMIT) -> int:
    """The bytes that values may take of a memory limit; all that can be counted where the target is off."""
    part = fraction("target", 0.6)
    return int(limit * part) if part and limit else sys.maxsize


def size(name: str, value: float | str) -> int:
    """A number of bytes, given as such or as text; ``name`` is what it is called where it is given."""
    try:
        return int(parse_bytes(value))
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}; expected bytes, as a number or as text like '1 GiB'") from error


def max_spill() -> int | Literal[False]:
    """The bytes that may be on disk, ``False`` for no limit."""
    value = memory("max-spill", False)
    return False if value is False or value is None else size("distributed.worker.memory.max-spill", value)


def compressor() -> str:
    """``overspill.compressor``; unless set, what stands nearest to Dask's ``spill-compression``."""
    unset = object()
    ours = dask.config.get("overspill.compressor", unset)
    if ours is not unset:
        # Dask makes a None of the word in an environment variable, and means no compression by it itself
        return str(ours or "none")
    theirs = memory("spill-compression", "auto")
    if not theirs:
        return "none"
    if theirs not in _COMPRESSORS:
        logger.info("spill-compression %r is unknown here; adaptive compression takes its place", theirs)
    return _COMPRESSORS.get(theirs, "adaptive")


def writers(default: int) -> int:
    """``overspill.writers``: threads that spill behind the caller."""
    return int(dask.config.get("overspill.writers", default))


def directories(default: str) -> list[str]:
    """``overspill.directories``, one or a list; ``default`` unless set."""
    given = dask.config.get("overspill.directories", None)
    if not given:
        return [default]
    return [os.path.expanduser(path) for path in ([given] if isinstance(given, str) else given)]


def object_store() -> str | None:
    """``overspill.object-store``: the URL of where values go that the disk has no room for."""
    given = dask.config.get("overspill.object-store", None)
    return str(given) if given else None
