"""Files that a user asked for: a write that fails is told with the name of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around whatever writes to `path`.

    Raises:
        DataError: the file cannot be written: the disk is full, the folder does not exist or is not yours.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. Name a file in a folder that exists, is yours and "
            "has room."
        ) from None
