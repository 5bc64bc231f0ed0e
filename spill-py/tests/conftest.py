"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from overspill import SpillBuffer


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[SpillBuffer]:
    """A buffer of 1000 bytes that spills in the caller."""
    with SpillBuffer(str(tmp_path), target=1000) as made:
        yield made
