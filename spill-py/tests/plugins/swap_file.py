"""A plugin of pytest that puts one of our stores in the place of `zict.File` before tests are collected.

The variable OVERSPILL_STORE names it: `Segments`, `Files` or `Objects`; OVERSPILL_BASE is what stands before a
directory to make it a place of that store: nothing, or for objects the beginning of a URL.
"""

import functools
import os

import zict

import overspill

Store = getattr(overspill, os.environ["OVERSPILL_STORE"])
base = os.environ["OVERSPILL_BASE"]


class File(Store):
    """The store, in the place that belongs to a directory."""

    @functools.wraps(Store.__init__)
    def __init__(self, directory, memmap=False):
        super().__init__(f"{base}{directory}", memmap=memmap)
        self._place = str(directory)


zict.File = zict.file.File = File
