"""What is left open when the interpreter ends is closed, since objects in a store would stay."""

from __future__ import annotations

import atexit
import logging
import weakref
from typing import Protocol

logger = logging.getLogger("overspill")


class Closes(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


#: By address, since mappings cannot be hashed.
_open: weakref.WeakValueDictionary[int, Closes] = weakref.WeakValueDictionary()


def close_at_exit(what: Closes) -> None:
    """Closes it when the interpreter ends, if it still lives then; closing twice does nothing."""
    _open[id(what)] = what


@atexit.register
def _close_all() -> None:
    for what in list(_open.values()):
        try:
            what.close()
        except Exception:  # a forked child has nothing to close
            logger.debug("%r could not be closed", type(what), exc_info=True)
