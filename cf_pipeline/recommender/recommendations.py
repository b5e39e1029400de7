"""Tables of recommendations for every user, and of similar movies for every movie.

They are made for a number of users or movies at a time: of all that there are, a row of factors
each is in memory, and never a score for every pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cf_pipeline.recommender import cold_start
from cf_pipeline.recommender.features import user_side_features
from cf_pipeline.recommender.newcomers import Newcomers
from cf_pipeline.recommender.serving import LENGTH, Recommender
from cf_pipeline.recommender.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from cf_pipeline.recommender.posterior import Posterior

ROWS_AT_ONCE = 4096  # users or movies
SEQUEL = ("Star Wars (1977)", "Empire Strikes Back, The (1980)")
COVERAGE = 0.9  # of the intervals of predicted ratings

# What the columns are, for people.
RECOMMENDATION_COLUMNS: Mapping[str, str] = {
    "user": "Whose list it is",
    "rank": "Place in the list, from 1",
    "movie": "A movie that the user has not rated",
    "title": "Title, with the year of release",
    "score": "What the list is ordered by: a movie's pull on the user, of no unit",
    "predicted_rating": "Rating expected",
    "rating_low": "Lower end of where nine of ten such ratings lie; empty without a posterior",
    "rating_high": "Upper end of where nine of ten such ratings lie; empty without a posterior",
    "reason": "The user's ratings that weigh most in it, of those no lower than usual for them",
}
SIMILAR_COLUMNS: Mapping[str, str] = {
    "movie": "The movie that others are compared with",
    "title": "Its title",
    "rank": "Place in the list, from 1",
    "similar_movie": "A movie that the same people like or dislike",
    "similar_title": "Its title",
    "cosine": "How alike the two movies' factors are, 1 at most",
    "ratings": "Training ratings of the similar movie: with few, little is known of it",
}


def recommendation_tables(
    recommender: Recommender,
    posterior: Posterior | None,
    users: pd.DataFrame,
) -> Iterator[pa.Table]:
    """Yield the best LENGTH unseen movies for every user, sorted by user and rank.

    Everybody in the training part, in the side table `users`, or with a rating in either part has a
    list. Who has no training rating gets that of people of the same age, gender and occupation,
    where these are known, or of the mean user. Ratings are predicted by the factor model, and of
    newcomers by the `posterior`, whose the intervals are; without one these are null.
    """
    ids, vectors = _everybody(recommender, users)
    drawn = None
    if posterior is not None:  # all at once, so that nobody's numbers depend on ROWS_AT_ONCE
        drawn = cold_start.with_newcomers(
            posterior, pd.Series(ids, name="user"), recommender.users, users
        )
    for start in range(0, len(ids), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        lists = _lists(recommender, ids[some], vectors[some])
        predicted = _predicted(recommender, drawn, ids, lists)
        yield pa.table({**lists, **predicted}).select(list(RECOMMENDATION_COLUMNS))


def similar_tables(recommender: Recommender) -> Iterator[pa.Table]:
    """Yield the LENGTH movies that are most like each movie, sorted by movie and rank."""
    titles = pa.array(recommender.titles, pa.string())
    for items in torch.arange(1, len(recommender.movies)).split(ROWS_AT_ONCE):
        similar, cosines = recommender.neighbours(items, LENGTH)
        listed = similar > 0
        item = items.unsqueeze(1).expand_as(similar)[listed].numpy()
        found = similar[listed].numpy()
        columns = {
            "movie": pa.array(recommender.movies.decode(item)),
            "title": titles.take(pa.array(item)),
            "rank": pa.array(_ranks(listed)),
            "similar_movie": pa.array(recommender.movies.decode(found)),
            "similar_title": titles.take(pa.array(found)),
            "cosine": pa.array(cosines[listed].numpy()),
            "ratings": pa.array(recommender.counts[similar[listed]].numpy()),
        }
        yield pa.table(columns)


def lists_of_each_movie(path: Path, recommender: Recommender) -> npt.NDArray[np.integer]:
    """Return in how many of the lists in the parquet file `path` each movie is, but `#na#`."""
    movies = pq.read_table(path, columns=["movie"])["movie"].to_pandas()
    return np.bincount(recommender.movies.encode(movies), minlength=len(recommender.movies))[1:]


def sequel_rank(recommender: Recommender) -> int | None:
    """Return the place of a well-known sequel among the movies most like the first one.

    It is 0 where the sequel is not among the LENGTH most alike, and None where the movies that are
    known do not have both.
    """
    first, sequel = SEQUEL
    if not {first, sequel} <= set(recommender.titles):
        return None
    alike = recommender.similar(first).set_index("title")["rank"]
    return int(alike.get(sequel, 0))


def write_tables(path: Path, tables: Iterable[pa.Table], log: Callable[[str], None]) -> None:
    """Write tables of one schema, one at least, into one parquet file as they come."""
    writer, rows = None, 0
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += len(table)
            log(f"{rows:,} rows written.")
    finally:
        if writer is not None:
            writer.close()


def _everybody(recommender: Recommender, users: pd.DataFrame) -> tuple[pd.Index, Tensor]:
    """Return the ids of all users, sorted, and their rows (n, width) of the model or like it."""
    known, table = recommender.users, recommender.model.users
    new = Vocabulary.of([*users["user"], *recommender.history.vocabulary.ids]).ids
    new = new.difference(known.ids)
    of_known, of_new = (
        torch.tensor(user_side_features(users, vocabulary)[1:])
        for vocabulary in (known, Vocabulary.of(new))
    )
    described = torch.tensor(new.isin(users["user"]))
    alike = Newcomers.like(table[None, 1:], of_known).mean(of_new)[0]
    of_new = torch.where(described.unsqueeze(1), alike, table[0])
    ids = known.ids.append(new)
    order = ids.argsort()
    return ids[order], torch.cat([table[1:], of_new])[torch.tensor(order)]


def _lists(recommender: Recommender, ids: pd.Index, vectors: Tensor) -> dict[str, pa.Array]:
    raters = torch.tensor(recommender.history.vocabulary.encode(ids))
    users = torch.tensor(recommender.users.encode(ids))
    listing = recommender.listing(
        vectors, recommender.history.seen.take(raters), recommender.rated.take(users), LENGTH
    )
    listed = listing.items > 0
    items = listing.items[listed].numpy()
    return {
        "user": pa.array(ids.to_numpy().repeat(listed.sum(dim=1).numpy())),
        "rank": pa.array(_ranks(listed)),
        "movie": pa.array(recommender.movies.decode(items)),
        "title": pa.array(recommender.titles, pa.string()).take(pa.array(items)),
        "score": pa.array(listing.scores[listed].numpy()),
        "reason": listing.reasons.filter(pa.array(listed.flatten().numpy())),
    }


def _predicted(
    recommender: Recommender,
    drawn: tuple[Posterior, Tensor] | None,
    ids: pd.Index,
    lists: Mapping[str, pa.Array],
) -> dict[str, pa.Array]:
    """Return what is predicted of pairs; `drawn` has a posterior, and in it the rows of `ids`."""
    users, movies = (lists[name].to_pandas() for name in ("user", "movie"))
    mean = recommender.model.rating.predict(users, movies)
    low = high = np.full(len(mean), np.nan, np.float32)
    if drawn is not None:
        posterior, rows = drawn
        items = torch.tensor(recommender.movies.encode(movies))
        predicted = posterior.predict(rows[ids.get_indexer(users)], items)
        low, high = (end.numpy() for end in predicted.interval(COVERAGE))
        mean = np.where(recommender.users.encode(users) > 0, mean, predicted.mean.numpy())
    columns = {"predicted_rating": mean, "rating_low": low, "rating_high": high}
    return {
        name: pa.array(column.clip(*recommender.model.rating.rating_scale), from_pandas=True)
        for name, column in columns.items()
    }


def _ranks(listed: Tensor) -> npt.NDArray[np.int32]:
    """Return the place of each that is `listed` (n, k) in its row, from 1."""
    ranks: npt.NDArray[np.int32] = listed.cumsum(dim=1)[listed].numpy().astype(np.int32)
    return ranks
