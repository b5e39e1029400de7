"""Where a fit stood, in a folder, so that it goes on from there when its process has died."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

STATE = "state.safetensors"


class Checkpoint(NamedTuple):
    """What was written after `step`: tensors, facts that are JSON, and all that was added."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    added: list[dict[str, Tensor]]


class Checkpoints:
    """The checkpoints of one fit, which `of` describes: that of another one is not gone on from.

    The folder has the latest state, and a file for each of what is only added to, such as samples.
    It is whoever made the folder that removes it.
    """

    def __init__(
        self, folder: Path, of: Mapping[str, Any], every_seconds: float, log: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._of = json.loads(json.dumps(of))
        self._every = every_seconds
        self._log = log
        self._last = time.monotonic()
        self._n_added = 0

    @property
    def due(self) -> bool:
        """Whether the time for another has come."""
        return time.monotonic() - self._last >= self._every

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        added: Sequence[Mapping[str, Tensor]] = (),
    ) -> None:
        """Write the state after `step`; all of `added` so far, of which the new ones are written.

        The state is complete or the one before, whenever the process dies. A fit does not need it:
        where there is no room, it goes on without.
        """
        self._last = time.monotonic()
        about = {"of": self._of, "step": step, "facts": facts, "n_added": len(added)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for number in range(self._n_added, len(added)):
                _write(added[number], self._added(number), None)
                self._n_added = number + 1
            _write(tensors, self._folder / STATE, {"about": json.dumps(about)})
        except (OSError, SafetensorError) as error:
            self._log(f"Where the fit stands was not written to {self._folder}: {error}")

    def load(self, device: torch.device) -> Checkpoint | None:
        """Return the latest checkpoint, its tensors on a device; None if there is none.

        One that is damaged, or is another fit's, is none.
        """
        path = self._folder / STATE
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["about"])
            if about["of"] != self._of:
                self._log(f"Not going on from {path}: it is of another fit.")
                return None
            tensors = load_file(path, str(device))
            added = [
                load_file(self._added(number), str(device)) for number in range(about["n_added"])
            ]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            self._log(f"Not going on from {path}, which cannot be read: {error!r}")
            return None
        self._n_added = len(added)
        self._log(f"Going on after step {about['step']}, where an earlier run came to.")
        return Checkpoint(about["step"], tensors, about["facts"], added)

    def _added(self, number: int) -> Path:
        return self._folder / f"added-{number:05d}.safetensors"


def _write(tensors: Mapping[str, Tensor], path: Path, about: dict[str, str] | None) -> None:
    """Write a file that is there complete or not at all."""
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, about)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
