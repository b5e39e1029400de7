"""Where a fit stood, in a folder, so that it goes on from there when its process has died."""

from __future__ import annotations

import json
import os
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cf_pipeline.recommender.source_digest import source_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

STATE = "state.safetensors"
VALUES_AT_ONCE = 1 << 20


class Checkpoint(NamedTuple):
    """What was written after `step`: tensors, facts that are JSON, and all that was added."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    added: list[dict[str, Tensor]]


class Checkpoints:
    """The checkpoints of one fit, which `of` describes: that of another one is not gone on from.

    The folder has the latest state, and a file for each of what is only added to, such as samples.
    The state has checksums of them all, and says which source was there when it was written: with
    another it is not gone on from, be it that the source was edited meanwhile or since. It is
    whoever made the folder that removes it.
    """

    def __init__(
        self, folder: Path, of: Mapping[str, Any], every_seconds: float, log: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._of = json.loads(json.dumps(of))
        self._every = every_seconds
        self._log = log
        self._began = self._last = time.monotonic()
        self._added_sums: list[int] = []
        self.seconds_before = 0.0  # that earlier runs took to the checkpoint that was loaded

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
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for number in range(len(self._added_sums), len(added)):
                _write(added[number], self._added(number), None)
                self._added_sums.append(_sum_of(added[number]))
            about = {"of": self._of, "step": step, "facts": facts, "sum": _sum_of(tensors)}
            about |= {"added_sums": self._added_sums, "source": source_digest()}
            about["seconds"] = self.seconds_before + self._last - self._began
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
            if about["source"] != source_digest():
                self._log(f"Not going on from {path}: the code or torch was another.")
                return None
            tensors = _read(path, about["sum"], device)
            sums = about["added_sums"]
            added = [_read(self._added(n), known, device) for n, known in enumerate(sums)]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            self._log(f"Not going on from {path}, which cannot be read: {error!r}")
            return None
        self._added_sums, self.seconds_before = sums, about["seconds"]
        self._log(f"Going on after step {about['step']}, where an earlier run came to.")
        return Checkpoint(about["step"], tensors, about["facts"], added)

    def _added(self, number: int) -> Path:
        return self._folder / f"added-{number:05d}.safetensors"


def checksum(*tensors: Tensor) -> int:
    """Return the CRC-32 of tensors' values, whatever their device, by pieces."""
    found = 0
    for tensor in tensors:
        for piece in tensor.detach().reshape(-1).split(VALUES_AT_ONCE):
            found = zlib.crc32(piece.cpu().numpy().tobytes(), found)
    return found


def _sum_of(tensors: Mapping[str, Tensor]) -> int:
    return checksum(*(tensors[name] for name in sorted(tensors)))


def _read(path: Path, known: int, device: torch.device) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Raises:
        ValueError: they are not those that were written.
    """
    tensors: dict[str, Tensor] = load_file(path, str(device))
    if _sum_of(tensors) != known:
        raise ValueError(f"{path.name} was altered: its checksum does not match")
    return tensors


def _write(tensors: Mapping[str, Tensor], path: Path, about: dict[str, str] | None) -> None:
    """Write a file that is there complete or not at all."""
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, about)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
