"""Reads files that are short, if they are what they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_at_most(path: Path, n_bytes: int) -> bytes:
    """Return a file's content; ValueError if it has more than `n_bytes`, however many that are."""
    with path.open("rb") as file:
        content = file.read(n_bytes + 1)
    if len(content) > n_bytes:
        raise ValueError(f"{path.name} has more than {n_bytes:,} bytes.")
    return content
