"""Maps of tasks whose errors are for whoever gave the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cf_pipeline.recommender.executors import BlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cf_pipeline.recommender.executors import Executor, Part

Found = TypeVar("Found")


def results(
    executor: Executor, task: Callable[..., Found], parts: Sequence[Part], *shared: object
) -> Iterator[Found]:
    """Yield what `executor.map` does; of a task that failed, raise the error that it raised."""
    try:
        yield from executor.map(task, parts, *shared)
    except BlockError as error:
        raise (error.__cause__ or error) from None
