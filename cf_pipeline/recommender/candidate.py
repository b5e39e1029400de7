"""A model that may be shown to people, with what the gate judges it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from cf_pipeline.recommender.bootstrap import Numbers
from cf_pipeline.recommender.datasets import STARS
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.rating_table import Origin
from cf_pipeline.recommender.serving import Recommender

ML_100K = Origin("ml-100k", STARS)
NONE_TO_PREDICT = "All ratings are alike, so there are none to predict."


@dataclass(frozen=True)
class Candidate:
    """A model that may be shown to people: its parts `train` and `test`, and what it was judged at.

    The parts are ratings of `origin` (columns user, movie, rating; of a challenger also timestamp);
    `evaluation` is what evaluation_metrics wrote.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    recommender: Recommender
    evaluation: Mapping[str, Any]
    origin: Origin = ML_100K

    @cached_property
    def ratings(self) -> pd.DataFrame:
        """Both parts together."""
        return pd.concat([self.train, self.test], ignore_index=True)

    @property
    def scale(self) -> RatingScale:
        """The rating scale of the training part."""
        return self.recommender.model.rating.rating_scale

    @cached_property
    def predicts(self) -> bool:
        """Whether there are ratings to predict: in both parts together, they are not all alike."""
        return not RatingScale.of(self.ratings["rating"]).is_constant

    @cached_property
    def encoded(self) -> tuple[EncodedRatings, EncodedRatings]:
        """Both parts as the model's indices."""
        return self.encode(self.train), self.encode(self.test)

    def encode(self, ratings: pd.DataFrame) -> EncodedRatings:
        """Return ratings (columns user, movie, rating) as the model's indices."""
        return EncodedRatings.of(ratings, self.recommender.users, self.recommender.movies)

    def predict(self, pairs: pd.DataFrame) -> Numbers:
        """Return the predicted ratings (n,) of pairs (columns user, movie), on the scale."""
        rating = self.recommender.model.rating
        return rating.predict(pairs["user"], pairs["movie"]).clip(*self.scale)
