"""A plugin of pytest that puts our buffer in the place of Dask's before tests are collected, as Dask's own suite has
it: values spill in the caller, and what cannot be serialised is forgotten as there.

    PYTHONPATH=spill-py/tests/plugins python -m pytest -p swap_spill_buffer .../distributed/tests/test_spill.py
"""

import functools

import distributed.spill
import distributed.worker_memory

import overspill


class SpillBuffer(overspill.SpillBuffer):
    """Ours, by Dask's arguments and Dask's rules."""

    @functools.wraps(overspill.SpillBuffer.__init__)
    def __init__(self, spill_directory, target, max_spill=False):
        super().__init__(spill_directory, target, max_spill, as_dask=True)


distributed.spill.SpillBuffer = distributed.worker_memory.SpillBuffer = SpillBuffer
