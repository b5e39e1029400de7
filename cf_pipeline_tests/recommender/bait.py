"""Pickles that leave a trace when they are read, for loaders that must never read one."""

import io
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

# Each way to write a pickle, with the way that would read it.
PICKLES = pytest.mark.parametrize(
    ("dump", "load"),
    [(pickle.dump, pickle.load), (torch.save, partial(torch.load, weights_only=False))],
)


class Bait:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def dumped(dump: Callable[..., None], folder: Path) -> bytes:
    """Return a pickle that makes `folder` when it is read."""
    file = io.BytesIO()
    dump(Bait(folder), file)
    return file.getvalue()
