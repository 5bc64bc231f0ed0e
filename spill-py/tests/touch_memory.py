"""Moves memory across the boundary in every way there is, for a checker of memory to look on.

    PYTHONMALLOC=malloc valgrind --undef-value-errors=no --error-exitcode=9 python spill-py/tests/touch_memory.py

It loads the native half alone, since what a cluster needs besides takes minutes under a checker.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import pickle
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

import numpy as np


def native():
    """The native half, without the package around it."""
    folder = Path(sysconfig.get_path("platlib")) / "overspill"
    (path,) = folder.glob("_native*.so")
    loader = importlib.machinery.ExtensionFileLoader("overspill._native", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


class Hooks:
    """Pickle with buffers out of band, and no meter."""

    weigh = staticmethod(lambda value: getattr(value, "nbytes", 0) or sys.getsizeof(value))
    bytes_extra = sys.getsizeof(b"")
    listeners = staticmethod(dict)
    metered = staticmethod(lambda figures: None)
    failed = staticmethod(lambda key, error, pickling: None)
    refused = staticmethod(lambda key, error: error)

    @staticmethod
    def dumps(value):
        buffers = []
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return [head, *(buffer.raw() for buffer in buffers)]

    @staticmethod
    def loads(frames):
        head = frames[0] if isinstance(frames[0], bytes) else np.asarray(frames[0])
        parts = [bytearray(part) if isinstance(part, bytes) else np.asarray(part) for part in frames[1:]]
        return pickle.loads(head, buffers=parts)


def run(module, folder, compressor, writers):
    buffer = module.Buffer()
    buffer._open(
        directories=[folder],
        target=200_000,
        max_spill=None,
        object_store=None,
        compressor=compressor,
        writers=writers,
        forgets=False,
        hooks=Hooks(),
    )
    source = np.random.default_rng(1)
    made = {}
    for n, size in enumerate([0, 1, 7, 4095, 4096, 4097, 65_535, 65_536, 300_000] * 4):
        raw = source.bytes(size)
        value = [raw, bytearray(raw), np.frombuffer(raw, "u1").copy(), np.arange(float(size // 8))][n // 9]
        made[n] = raw if n // 9 < 3 else value.tobytes()
        buffer[n] = value
    for _ in range(3):
        for n, expected in made.items():
            value = buffer[n]
            assert (value if isinstance(value, (bytes, bytearray)) else value.tobytes()) == expected
            if n % 5 == 0:
                buffer.evict()
    together(buffer, made)
    kept = [buffer[n] for n in range(18, 36)]
    buffer["alias"] = kept[-1]
    buffer["alias"][:] = 42
    for n in range(18, 35):
        del buffer[n]
    buffer.flush()
    while buffer._sizes()[0]:
        buffer.evict()
    assert (buffer["alias"] == 42).all() and buffer[35] is buffer["alias"]
    for value, n in zip(kept[:-1], range(18, 35)):
        assert value.tobytes() == made[n]
        if value.size:
            value[:] = 1  # what was read belongs to the reader, when the store is gone too
    buffer.close()
    del buffer
    gc.collect()
    assert all((value == 1).all() for value in kept[:-1])


def together(buffer, keys):
    """Threads read and evict the same values, so that several hold one at a time and any of them drops it last."""

    def read():
        for n in keys:
            buffer[n]

    def evict():
        for _ in keys:
            buffer.evict()

    threads = [threading.Thread(target=call) for call in (read, evict, read, evict)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    module = native()
    for compressor in ("none", "adaptive"):
        for writers in (0, 1):
            with tempfile.TemporaryDirectory() as folder:
                run(module, folder, compressor, writers)
    with tempfile.TemporaryDirectory() as folder:
        store = module.Store()
        store._open_segments(folder, "lz4", None)
        for size in (0, 1, 4096, 100_000):
            store["x"] = [bytes(size), memoryview(bytearray(size)), np.zeros(size, "u1").data]
            assert store["x"] == bytes(3 * size)
        store.close()
    print("done")


if __name__ == "__main__":
    main()
