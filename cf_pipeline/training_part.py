"""The training part as fits take it, read from what the pipeline keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

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

    @classmethod
    def of(
        cls,
        rows: pd.DataFrame,
        known: tuple[Vocabulary, Vocabulary],
        side_tables: tuple[pd.DataFrame, pd.DataFrame],
        device: torch.device,
    ) -> Self:
        """Encode ratings by the vocabularies `known`; of these and of side tables, users' first."""
        import pandas as pd

        from cf_pipeline.recommender.features import SideFeatures
        from cf_pipeline.recommender.minibatches import EncodedRatings

        ratings = EncodedRatings.of(rows, *known, device)
        side = SideFeatures.of(*side_tables, *known, device)
        ids = known[1].decode(range(len(known[1])))
        titles = side_tables[1].set_index("movie")["title"].reindex(ids)
        named = titles.fillna(pd.Series(ids, ids)).astype(str).tolist()
        return cls(rows, ratings, side, *known, named)


def load_training_part(
    train_test_split: Artifact,
    vocabularies: Artifact,
    movies: Artifact,
    users: Artifact,
    device: torch.device,
) -> TrainingPart:
    """Read the training part, its vocabularies and the side tables; the test part is left out."""
    import pandas as pd

    from cf_pipeline.recommender.splits import read_part
    from cf_pipeline.recommender.vocabulary import Vocabulary

    return TrainingPart.of(
        read_part(train_test_split.path("train_test_split.parquet"), "train"),
        (
            Vocabulary.load(vocabularies.path("user_vocabulary.parquet")),
            Vocabulary.load(vocabularies.path("movie_vocabulary.parquet")),
        ),
        (
            pd.read_parquet(users.path("users.parquet")),
            pd.read_parquet(movies.path("movies.parquet")),
        ),
        device,
    )
