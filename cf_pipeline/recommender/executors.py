"""Where the tasks of a fit run: here, one after the other, or on a cluster (`ray_executor`).

A fit is a row of maps over blocks: of users, of items, or of ratings. A task takes one block and
what all tasks of the map share, and gives back what it found; it knows nothing of the others, so
whoever runs it, in whatever order, the results are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Made = TypeVar("Made", covariant=True)
Found = TypeVar("Found")


class Part(NamedTuple):
    """One task of a map: what it is called in logs and errors, and the arguments of its own.

    `size` is how many ratings, or rows where there are no ratings, it is about: of that comes its
    throughput.
    """

    name: str
    size: int
    arguments: tuple[Any, ...]


class Usage(NamedTuple):
    """What one node of a cluster did: tasks, the ratings they were about, how long, how many late.

    A straggler is a task that took twice the median of its map, and a second more.
    """

    node: str
    tasks: int
    ratings: int
    busy_seconds: float
    stragglers: int

    def shown(self) -> dict[str, str | int | float | None]:
        """Return it as the row of a table, without a rate where nobody knew how many they were."""
        return {
            "node": self.node,
            "tasks": self.tasks,
            "busy_seconds": round(self.busy_seconds, 1),
            "ratings_a_second": round(self.ratings / max(self.busy_seconds, 1e-9)) or None,
            "stragglers": self.stragglers,
        }


class Kept(Protocol[Made]):
    """What a task made and what stays where it was made: an argument of later tasks."""


class BlockError(Exception):
    """A task failed wherever it was tried; the message names its block."""

    @classmethod
    def of(cls, task: str, error: BaseException) -> Self:
        """Return what says that a task failed, by its name, of an error."""
        return cls(f"{task} failed: {str(error).rstrip('.') or repr(error)}.")


class RayUnavailableError(RuntimeError):
    """There is no cluster that tasks could run on."""


class Executor(Protocol):
    """Runs tasks: functions of a module, whose arguments and results can be pickled.

    `in_process` says that they run where they are asked for, so that nothing needs to be.
    """

    in_process: bool

    def keep(
        self, task: Callable[..., Made], parts: Sequence[Part], *shared: object
    ) -> Sequence[Kept[Made]]:
        """Let `task` make something of each part, as `map` does, to be an argument of its tasks.

        It stays where it was made; a failure may show only where it is an argument.
        """

    def map(
        self, task: Callable[..., Found], parts: Sequence[Part], *shared: object
    ) -> Iterator[Found]:
        """Yield, in the order of `parts`, what `task(*arguments, *shared)` returns.

        Nothing that the arguments hold may be written to.

        Raises:
            BlockError: a task failed.
        """

    def works_on(self, device: object) -> str:
        """Return what tasks run on, to be shown: in this process, that is `device`."""

    def usage(self) -> list[Usage]:
        """Return what each node did in `map` since the last call; nothing in the process itself."""


class LocalExecutor:
    """Runs every task in this process, in the order of the parts."""

    in_process = True

    def keep(
        self, task: Callable[..., Made], parts: Sequence[Part], *shared: object
    ) -> Sequence[Kept[Made]]:
        """Keep what the tasks make in this process, or where they put it."""
        return list(self.map(task, parts, *shared))

    def map(
        self, task: Callable[..., Found], parts: Sequence[Part], *shared: object
    ) -> Iterator[Found]:
        """Run a task whenever its result is asked for."""
        for part in parts:
            try:
                found = task(*part.arguments, *shared)
            except Exception as error:
                raise BlockError.of(part.name, error) from error
            yield found

    def works_on(self, device: object) -> str:
        """Return the name of the device."""
        return str(device)

    def usage(self) -> list[Usage]:
        """Return nothing: there is one process."""
        return []


LOCAL = LocalExecutor()
