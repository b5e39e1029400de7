"""The sums over both sides' ratings, within a budget of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cf_pipeline.recommender.rating_sums import RatingSums
from cf_pipeline.recommender.storage import GIB

if TYPE_CHECKING:
    from cf_pipeline.recommender.minibatches import EncodedRatings

INDEX_BYTES = 4


def both_sides(
    ratings: EncodedRatings,
    n_users: int,
    n_items: int,
    memory_gib: float,
    *,
    with_values: bool,
    replaceable: bool = False,
) -> tuple[RatingSums, RatingSums]:
    """Return the sums of the users and of the items, whose values are the ratings or 1.

    They stand in temporary files if together they would take more than `memory_gib`: see `empty`.

    Raises:
        OSError: there is no room for the files.
    """
    users, items, values = ratings
    of_rating = INDEX_BYTES * (1 + replaceable) + with_values * values.element_size()
    on_disk = 2 * of_rating * len(values) > memory_gib * GIB
    users_sums, items_sums = (
        RatingSums(
            rows,
            columns,
            values if with_values else None,
            n,
            others,
            replaceable=replaceable,
            on_disk=on_disk,
        )
        for rows, columns, n, others in (
            (users, items, n_users, n_items),
            (items, users, n_items, n_users),
        )
    )
    return users_sums, items_sums
