"""The sums over both sides' ratings, in blocks and within a budget of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cf_pipeline.recommender.blocks import BlockKind, Blocks
from cf_pipeline.recommender.executors import LOCAL
from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline.recommender.storage import GIB

if TYPE_CHECKING:
    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale
    from cf_pipeline.recommender.settings import BlockSettings

INDEX_BYTES = 4


def both_sides(
    ratings: EncodedRatings,
    n_users: int,
    n_items: int,
    settings: BlockSettings,
    *,
    with_values: bool,
    replaceable: bool = False,
    scale: RatingScale = STARS,
    executor: Executor = LOCAL,
) -> tuple[Blocks, Blocks]:
    """Return the blocks of the users and of the items.

    Their values are 1, or the ratings, of a `scale`, as stars.
    They stand in temporary files if together they would take more than `settings.memory_gib`: see
    `storage.empty`. Where they are elsewhere than in this process, that is their executor's affair.
    Blocks have about `settings.block_ratings` ratings; where values are replaced, by the order of
    all ratings, there is one.

    Raises:
        BlockError: an index is out of range, a rating is not finite, or there is no room for the
        files.
    """
    of_rating = INDEX_BYTES * (1 + replaceable) + with_values * ratings.ratings.element_size()
    n = len(ratings.ratings)
    on_disk = executor.in_process and 2 * of_rating * n > settings.memory_gib * GIB
    size = max(1, n) if replaceable else settings.block_ratings
    users = BlockKind("users", n_items, with_values, replaceable, on_disk, scale)
    items = BlockKind("items", n_users, with_values, replaceable, on_disk, scale)
    return (
        Blocks.of(ratings, n_users, users, size, executor),
        Blocks.of(ratings, n_items, items, size, executor),
    )
