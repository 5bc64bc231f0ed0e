"""Objects as lists of buffers and back.

Plain numpy arrays are their own memory and a short head. Everything else goes through Dask's families of
serialisers, which are told of pickle's out-of-band buffers. ``bytes`` never come here.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
from distributed.protocol.serialize import merge_and_deserialize, serialize_and_split

# They have no annotations.
_split: Callable[..., tuple[dict[str, Any], list[Any]]] = serialize_and_split
_merge: Callable[[Any, list[memoryview]], Any] = merge_and_deserialize

_ARRAY = b"a"
_DASK = b"d"

#: Kinds of numpy types whose values are plain memory, told fully by ``dtype.str``.
_PLAIN = "biufcSUmM"


def dumps(value: Any) -> list[Any]:
    """The buffers of ``value``; the first is a head.

    Raises what its serialiser raises.
    """
    if type(value) is np.ndarray and _is_plain(value):
        order = "C" if value.flags.c_contiguous else "F"
        head = pickle.dumps((value.dtype.str, value.shape, order, value.flags.writeable))
        return [_ARRAY + head, value.ravel(order="K").view("u1")]
    header, frames = _split(value, on_error="raise")
    header["count"] = len(frames)
    return [_DASK + msgpack.dumps(header, use_bin_type=True), *map(_flat, frames)]


def loads(frames: Sequence[Any]) -> Any:
    """The value that ``dumps`` gave these buffers for.

    Each is ``bytes``, or memory that belongs to the value alone and is used as it is.
    """
    head = bytes(frames[0]) if isinstance(frames[0], bytes) else np.asarray(frames[0]).tobytes()
    if head[:1] == _ARRAY:
        dtype, shape, order, writeable = pickle.loads(head[1:])
        array = np.ndarray(shape, dtype, buffer=_writable(frames[1]), order=order)
        if not writeable:
            array.flags.writeable = False
        return array
    header = msgpack.loads(head[1:], raw=False, use_list=False, strict_map_key=False)
    return _merge(header, [memoryview(_writable(f)) for f in frames[1:]])


def _is_plain(array: np.ndarray[Any, Any]) -> bool:
    flags = array.flags
    return (
        array.size > 0
        and array.ndim > 0
        and (flags.c_contiguous or flags.f_contiguous)
        and array.dtype.kind in _PLAIN
        and array.dtype.metadata is None
    )


def _flat(frame: Any) -> Any:
    return frame if isinstance(frame, bytes) else memoryview(frame).cast("B")


def _writable(frame: Any) -> Any:
    return bytearray(frame) if isinstance(frame, bytes) else np.asarray(frame)
