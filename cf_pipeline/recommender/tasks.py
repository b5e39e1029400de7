"""Maps of tasks whose errors are for whoever gave the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cf_pipeline.recommender.custom_files import CustomTableError
from cf_pipeline.recommender.executors import BlockError
from cf_pipeline.recommender.movielens_rows import MalformedRowError
from cf_pipeline.recommender.places import ArchiveLayoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cf_pipeline.recommender.executors import Executor, Part

Found = TypeVar("Found")
OF_WHAT_WAS_GIVEN = (ArchiveLayoutError, CustomTableError, MalformedRowError)


def results(
    executor: Executor, task: Callable[..., Found], parts: Sequence[Part], *shared: object
) -> Iterator[Found]:
    """Yield what `executor.map` does; an error in what was given is raised as the task raised it.

    Such an error says itself which file and row are wrong, and what to do.

    Raises:
        BlockError: a task failed for another reason, as a full disk; the message names its block.
    """
    try:
        yield from executor.map(task, parts, *shared)
    except BlockError as error:
        if isinstance(error.__cause__, OF_WHAT_WAS_GIVEN):
            raise error.__cause__ from None
        raise
