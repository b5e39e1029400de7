"""Our methods, as the accuracy benchmark fits them: from encoded ratings and raw side tables on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
import torch
from torch import Tensor

from cf_pipeline.recommender import distillation, gibbs, gradient_descent
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings, GradientDescentSettings
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.benchmarks.peers import Fitted, Method, Ratings

# From index tensors of users and movies (n,), (n,) to predicted ratings (n,).
Predict: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ours:
    """Makes our methods; `users` and `movies` are the side tables."""

    users: pd.DataFrame
    movies: pd.DataFrame

    def descent(self, settings: GradientDescentSettings) -> Method:
        """Gradient descent."""
        return self._method(lambda train, side: gradient_descent.fit(train, side, settings).model)

    def distilled(self, settings: GibbsSettings) -> Method:
        """The factor model that is distilled from the posterior; to distil it is timed with it."""
        return self._method(lambda train, side: distillation.fit(train, side, settings).model)

    def sampled(self, settings: GibbsSettings) -> Method:
        """The posterior mean over all samples."""

        def fit(train: EncodedRatings, side: SideFeatures) -> Predict:
            posterior = gibbs.fit(train, side, settings).posterior
            return lambda users, movies: posterior.predict(users, movies).mean

        return self._method(fit)

    def _method(self, fit: Callable[[EncodedRatings, SideFeatures], Predict]) -> Method:
        def fitted(train: pd.DataFrame) -> Fitted:
            known = {name: Vocabulary.of(train[name]) for name in ("user", "movie")}
            encoded = EncodedRatings.of(train, known["user"], known["movie"])
            start = time.perf_counter()
            side = SideFeatures.of(self.users, self.movies, known["user"], known["movie"])
            predict = fit(encoded, side)
            seconds = time.perf_counter() - start

            @torch.no_grad()
            def predicted(pairs: pd.DataFrame) -> Ratings:
                indices = (torch.from_numpy(known[name].encode(pairs[name])) for name in known)
                return predict(*indices).numpy()

            return Fitted(seconds, predicted)

        return fitted
