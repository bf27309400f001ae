"""Files that are there whole or not at all, however many processes make them and whenever one is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, which takes its place if all went well and goes if not. Two
    processes that make the same file do not meet: the later one's stays."""
    partial = path.with_name(f"{path.name}.{uuid4().hex[:12]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
