"""Storage alone: mappings of text to bytes, for programs that stack zict's mappings themselves."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from itertools import chain
from os import PathLike, fspath
from typing import Any

from overspill import _native
from overspill.ending import close_at_exit

#: What can be stored: bytes-like objects, and lists or tuples of them, which are joined.
Storable = Any


class _Store(_native.Store, MutableMapping[str, Any]):
    """What the stores have in common. Each stands wherever ``zict.File`` does: a key is text, a value that is read
    is a ``bytearray``. Thread-safe; a context manager."""

    _place: str
    _memmap: bool

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return memoryview(value) if self._memmap else value

    def discard(self, key: str) -> None:
        """Removes a key if it is there."""
        try:
            del self[key]
        except KeyError:
            pass

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Sets many pairs, which reach storage together where it gains by that.

        Raises the first problem; pairs that come later may be set or not.
        """
        pairs = ((key, other[key]) for key in other.keys()) if hasattr(other, "keys") else other
        self._set_many(chain(pairs, more.items()))

    @property
    def stored(self) -> tuple[int, int]:
        """The bytes of the values, and those of their records, after compression."""
        return self._sizes()

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._place}, {len(self)} elements>"

    __str__ = __repr__


class _OnDisk(_Store):
    """A store below a directory."""

    #: What it is called where no directory is given.
    _kind: str

    def __init__(
        self,
        directory: str | PathLike[str] | None = None,
        memmap: bool = False,
        *,
        compressor: str = "none",
        max_bytes: int | None = None,
    ) -> None:
        self._place = self._kind if directory is None else fspath(directory)
        self._memmap = memmap
        self._open_below(directory, compressor, max_bytes)

    def _open_below(
        self, directory: str | PathLike[str] | None, compressor: str, max_bytes: int | None
    ) -> None:
        raise NotImplementedError


class Segments(_OnDisk):
    """Values in segment files: the fast one. They go with the store, and with the process.

    Parameters
    ----------
    directory:
        Where a private directory is made for the files; the temporary directory unless given.
    memmap:
        Whether values are read as a ``memoryview``, as ``zict.File`` does with this argument.
    compressor:
        ``none``, ``adaptive``, ``lz4`` or ``zstd:LEVEL``.
    max_bytes:
        The most bytes of records; a value beyond is refused with an ``OSError``.
    """

    _kind = "segments"
    _open_below = _native.Store._open_segments


class Files(_OnDisk):
    """A file for each key. In a directory that is given they stay, and are there when it is opened again.

    One store at a time can have a directory open.

    Parameters
    ----------
    directory:
        Where the files are; a private directory, which goes with the store, unless given.
    memmap, compressor, max_bytes:
        As of ``Segments``.
    """

    _kind = "files"
    _open_below = _native.Store._open_files


class Objects(_Store):
    """Values in an object store, under a private prefix that goes with this mapping.

    Parameters
    ----------
    url:
        ``s3://bucket/prefix``, ``gs://``, ``az://``, ``file:///directory`` or ``memory://``.
    options:
        Settings of the store, such as ``{"aws_region": "eu-west-1"}``; what is not given comes from the
        environment.
    compressor, max_bytes:
        As of ``Segments``.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, str] | None = None,
        *,
        memmap: bool = False,
        compressor: str = "adaptive",
        max_bytes: int | None = None,
    ) -> None:
        self._place = url
        self._memmap = memmap
        self._open_objects(url, list((options or {}).items()), compressor, max_bytes)
        close_at_exit(self, url)


__all__ = ["Files", "Objects", "Segments"]
