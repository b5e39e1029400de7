"""The training part as fits take it, read from what the pipeline keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from cf_pipeline.artifacts import Artifact
    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.vocabulary import Vocabulary


class TrainingPart(NamedTuple):
    """The training ratings as `rows`, and on a device as `ratings`, with features of both sides.

    `users` and `movies` are the vocabularies; `titles` are the movies' by index, an id for a movie
    of which no title is known.
    """

    rows: pd.DataFrame
    ratings: EncodedRatings
    side: SideFeatures
    users: Vocabulary
    movies: Vocabulary
    titles: list[str]


def load_training_part(
    train_test_split: Artifact,
    vocabularies: Artifact,
    movies: Artifact,
    users: Artifact,
    device: torch.device,
) -> TrainingPart:
    """Read the training part, its vocabularies and the side tables; the test part is left out."""
    import pandas as pd

    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.splits import read_part
    from cf_pipeline.recommender.vocabulary import Vocabulary

    known_users = Vocabulary.load(vocabularies.path("user_vocabulary.parquet"))
    known_movies = Vocabulary.load(vocabularies.path("movie_vocabulary.parquet"))
    rows = read_part(train_test_split.path("train_test_split.parquet"), "train")
    ratings = EncodedRatings.of(rows, known_users, known_movies, device)
    movie_table = pd.read_parquet(movies.path("movies.parquet"))
    user_table = pd.read_parquet(users.path("users.parquet"))
    side = SideFeatures.of(user_table, movie_table, known_users, known_movies, device)
    ids = known_movies.decode(range(len(known_movies)))
    titles = movie_table.set_index("movie")["title"].reindex(ids).fillna(pd.Series(ids, ids))
    return TrainingPart(rows, ratings, side, known_users, known_movies, titles.astype(str).tolist())
