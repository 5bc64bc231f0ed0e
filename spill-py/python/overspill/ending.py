"""What is left open when the interpreter ends is closed, since objects in a store would stay."""

from __future__ import annotations

import logging
import os
import weakref
from typing import Protocol

logger = logging.getLogger("overspill")


class Closes(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


def close_at_exit(what: Closes, url: str) -> None:
    """Closes what has objects at this URL when the interpreter ends, if it still lives then.

    By a finalizer, which is called after Dask's own functions of ``atexit``: those close the clusters of the
    process, whose workers need their buffers until then.
    """
    weakref.finalize(what, _close, weakref.ref(what), url, os.getpid())


def _close(found: weakref.ref[Closes], url: str, process: int) -> None:
    what = found()
    # a forked child has nothing to close
    if what is None or os.getpid() != process:
        return
    try:
        what.close()
    except Exception as error:
        left_behind(url, error)


def left_behind(url: str | None, why: BaseException) -> None:
    """Logs that objects may have stayed, and what to do."""
    logger.warning(
        "Objects may be left behind in the object store; `overspill purge %s` removes them", url, exc_info=why
    )
