"""Ways to damage the files in a folder, and what a refusal of them must say."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

Damage = Callable[[Path], object]


class ModelFault(NamedTuple):
    """`damage` spoils a folder in which a model was saved.

    The refusal says `text`, and to materialize the `asset` again.
    """

    name: str
    damage: Damage
    text: str
    asset: str = "factor_model"


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Damage:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 20)


def longer(name: str) -> Damage:
    """Make a file 20 GB long, which takes no room on the disk."""
    return lambda folder: os.truncate(folder / name, 20 * 10**9)


def written(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content)


def with_tensors(kind: str, tensors: dict[str, Tensor | None]) -> Damage:
    """Return the damage that puts these among the tensors of a file; None takes one out."""

    def damage(folder: Path) -> None:
        path = folder / f"{kind}.safetensors"
        held = load_file(path) | tensors
        save_file({name: tensor for name, tensor in held.items() if tensor is not None}, path)

    return damage


def with_entries(name: str, changed: dict[str, object]) -> Damage:
    def damage(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(held | changed))

    return damage


def with_header(name: str, header: bytes) -> Damage:
    """Return the damage that gives a file another header, and leaves it as long as it is."""

    def damage(folder: Path) -> None:
        size = (folder / name).stat().st_size
        content = len(header).to_bytes(8, "little") + header
        (folder / name).write_bytes(content.ljust(size, b"\0")[:size])

    return damage
