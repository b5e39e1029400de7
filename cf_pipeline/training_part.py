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
    """The training ratings on a device, encoded, with features of both sides.

    `users` and `movies` are the vocabularies; `titles` are the movies' by index, an id for a movie
    of which no title is known.
    """

    ratings: EncodedRatings
    side: SideFeatures
    users: Vocabulary
    movies: Vocabulary
    titles: list[str]

    @classmethod
    def of(
        cls,
        ratings: EncodedRatings,
        known: tuple[Vocabulary, Vocabulary],
        side_tables: tuple[pd.DataFrame, pd.DataFrame],
    ) -> Self:
        """Take ratings encoded by the vocabularies `known`; of these and of tables, users' first.

        The features are put on the ratings' device.
        """
        import pandas as pd

        from cf_pipeline.recommender.features import SideFeatures

        side = SideFeatures.of(*side_tables, *known, ratings.ratings.device)
        ids = known[1].decode(range(len(known[1])))
        titles = side_tables[1].set_index("movie")["title"].reindex(ids)
        named = titles.astype(object).fillna(pd.Series(ids, ids)).astype(str).tolist()
        return cls(ratings, side, *known, named)


def load_training_part(
    vocabularies: Artifact, movies: Artifact, users: Artifact, device: torch.device
) -> TrainingPart:
    """Read the training part, its vocabularies and the side tables; the test part is left out."""
    import pandas as pd

    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.vocabulary import Vocabulary

    folder = vocabularies.verified()
    return TrainingPart.of(
        EncodedRatings.load(folder, "train", device),
        (
            Vocabulary.load(folder / "user_vocabulary.parquet"),
            Vocabulary.load(folder / "movie_vocabulary.parquet"),
        ),
        (
            pd.read_parquet(users.path("users.parquet")),
            pd.read_parquet(movies.path("movies.parquet")),
        ),
    )
