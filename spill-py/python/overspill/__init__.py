"""A larger-than-memory mapping for Dask workers.

``SpillBuffer`` keeps values in memory up to a target and moves the least recently used ones to disk past it::

    from distributed import Client, LocalCluster
    import overspill

    with LocalCluster(memory_limit="4 GiB", data=overspill.SpillBuffer) as cluster, Client(cluster) as client:
        ...
"""

from __future__ import annotations

import os

from overspill import _native
from overspill.spill import PickleError, SpillBuffer, SpilledSize
from overspill.stores import Files, Objects, Segments

__all__ = ["Files", "Objects", "PickleError", "Segments", "SpillBuffer", "SpilledSize"]

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.forked)
