"""Executors for tests: what a cluster may do to tasks without one, and a fit that is stopped."""

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cf_pipeline.recommender.executors import BlockError, Kept, LocalExecutor, Part
from cf_pipeline.recommender.gibbs_side import draw_block
from cf_pipeline.recommender.implicit_als import solve_block

Made = TypeVar("Made")


class PicklingExecutor:
    """Runs the last part first, and pickles tasks, arguments and results, as other processes do.

    What it keeps is nothing that could be used here; and no task may write to its arguments.
    """

    in_process = False

    def keep(
        self, task: Callable[..., Made], parts: Sequence[Part], *shared: object
    ) -> Sequence[Kept[Made]]:
        return [_There(pickle.dumps(made)) for made in self.map(task, parts, *shared)]

    def map(
        self, task: Callable[..., Made], parts: Sequence[Part], *shared: object
    ) -> Iterator[Made]:
        found = [_elsewhere(task, part, shared) for part in reversed(parts)]
        yield from reversed(found)

    def works_on(self, device: object) -> str:
        return f"pickles on {device}"

    def usage(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class _There:
    pickled: bytes


def _elsewhere(task: Callable[..., Made], part: Part, shared: tuple[object, ...]) -> Made:
    sent = pickle.dumps((task, (*part.arguments, *shared)))
    try:
        there, given = pickle.loads(sent)
        arguments = [pickle.loads(one.pickled) if isinstance(one, _There) else one for one in given]
        before = pickle.dumps(arguments)
        received: Made = pickle.loads(pickle.dumps(there(*arguments)))
    except Exception as error:
        raise BlockError.of(part.name, error) from error
    assert pickle.dumps(arguments) == before, f"{task} wrote to its arguments"
    return received


PICKLING = PicklingExecutor()


class StoppedError(Exception):
    """A fit was stopped by its test."""


class StoppingExecutor(LocalExecutor):
    """Counts half-steps, in each of which users or items are fitted, and stops before one of them.

    To stop is to raise a StoppedError, or to kill the process if that is asked for.
    """

    def __init__(self, stop_before: int | None = None, kill: bool = False) -> None:
        self.half_steps = 0
        self._stop_before = stop_before
        self._kill = kill

    def map(
        self, task: Callable[..., Made], parts: Sequence[Part], *shared: object
    ) -> Iterator[Made]:
        if task in (draw_block, solve_block):
            self.half_steps += 1
            if self.half_steps == self._stop_before:
                if self._kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise StoppedError
        return super().map(task, parts, *shared)
