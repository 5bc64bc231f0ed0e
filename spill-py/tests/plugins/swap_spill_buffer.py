"""A plugin of pytest that puts our buffer in the place of Dask's before tests are collected.

    PYTHONPATH=spill-py/tests/plugins python -m pytest -p swap_spill_buffer .../distributed/tests/test_spill.py
"""

import distributed.spill
import distributed.worker_memory

import overspill

distributed.spill.SpillBuffer = distributed.worker_memory.SpillBuffer = overspill.SpillBuffer
