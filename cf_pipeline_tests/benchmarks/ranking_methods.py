"""What ours and the peers' ways of ranking reach on a split of MovieLens 100k, and how fast."""

import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Self, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor

from cf_pipeline.recommender import distillation, implicit_als, list_quality, ranking_fit
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_metrics import RankingReport
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline.recommender.splits import Fold, official_fold
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.benchmarks.ranking_peers import PEERS, Peer, Rated, Settings
from cf_pipeline_tests.benchmarks.scale_process import seconds_of

CARVED, CARVE_SEED = 0.1, 0
OURS, UNWEIGHED, RATING = "ours", "ours without rating", "by predicted rating alone"
IDS_ONLY = "ours, ids only"
ALS = "implicit ALS"
TURNS = 3
# Counting all test ratings, and counting those of four stars or more.
Reports: TypeAlias = tuple[RankingReport, RankingReport]


@dataclass(frozen=True)
class Split:
    """A split's parts, encoded; `rest` and `validation` are the training part's own."""

    name: Fold
    train: EncodedRatings
    test: EncodedRatings
    rest: EncodedRatings
    validation: EncodedRatings
    users: Vocabulary
    movies: Vocabulary

    @classmethod
    def of(cls, name: Fold, ratings: pd.DataFrame) -> Self:
        """Part and encode."""
        in_test = official_fold(ratings, name)
        users, movies = (Vocabulary.of(ratings[~in_test][column]) for column in ("user", "movie"))
        train, test = (
            EncodedRatings.of(ratings[rows], users, movies) for rows in (~in_test, in_test)
        )
        return cls(name, train, test, *train.carve(CARVED, CARVE_SEED), users, movies)

    def rated(self, part: EncodedRatings) -> Rated:
        """Return who rated what in `part`, as the peers take it."""
        ones = np.ones(len(part.ratings), np.float32)
        shape = len(self.users), len(self.movies)
        return scipy.sparse.csr_matrix((ones, (part.users.numpy(), part.items.numpy())), shape)


@dataclass(frozen=True)
class Result:
    """What a method reached on a split, and each of its fits' seconds.

    `further_seconds` are what the whole takes beside such a fit.
    """

    reports: Reports
    settings: Settings
    seconds: list[float]
    further_seconds: float = 0.0


def results_on(split: Split, users: pd.DataFrame, movies: pd.DataFrame) -> dict[str, Result]:
    """Return each method's result on a split; `users` and `movies` are the side tables."""
    results = our_results(split, users, movies)
    for name, peer in PEERS.items():
        results[name] = peer_result(split, peer)
    side = SideFeatures.of(users, movies, split.users, split.movies)
    results |= in_turns(split, side, results)
    for name, result in results.items():
        print(f"{split.name}  {name}: {result}", file=sys.stderr)
    return results


def our_results(split: Split, users: pd.DataFrame, movies: pd.DataFrame) -> dict[str, Result]:
    """Fit the whole recipe, and judge it and both of its parts."""
    start = time.perf_counter()
    side = SideFeatures.of(users, movies, split.users, split.movies)
    rating, of_rest = (
        distillation.fit(part, side, GibbsSettings()) for part in (split.train, split.rest)
    )
    fit = ranking_fit.fit(
        split.train,
        side,
        rating.model,
        RankingSettings(),
        split.rest,
        split.validation,
        of_rest.model,
    )
    whole = time.perf_counter() - start
    nothing = ImplicitFactors(*(torch.zeros_like(table) for table in fit.model.implicit))

    def result(model: RankingModel, seconds: float) -> Result:
        reports = judged(model.users, model.items, split.train, split.test)
        return Result(reports, {"weight": model.weight}, [seconds])

    return {
        OURS: replace(result(fit.model, fit.seconds), further_seconds=whole - fit.seconds),
        UNWEIGHED: result(replace(fit.model, weight=0.0), fit.seconds),
        IDS_ONLY: ids_only(split),
        RATING: result(replace(fit.model, weight=1.0, implicit=nothing), rating.seconds),
    }


def ids_only(split: Split) -> Result:
    """Fit the implicit factors to what the peers get: nothing is known of users and movies."""
    nothing = SideFeatures(torch.zeros(len(split.users), 0), torch.zeros(len(split.movies), 0))
    start = time.perf_counter()
    factors = implicit_als.fit(split.train, nothing, RankingSettings())
    seconds = time.perf_counter() - start
    return Result(judged(*factors, split.train, split.test), {}, [seconds])


def peer_result(split: Split, peer: Peer) -> Result:
    """Choose a peer's settings on the carved rows, fit it to all training rows, and judge it."""
    rated = split.rated(split.rest)

    def on_carved(settings: Settings) -> float:
        fitted = peer.fit(rated, settings)
        return sum(ndcgs(judged(fitted.users, fitted.items, split.rest, split.validation)))

    best = max(peer.settings(), key=on_carved)
    factors = peer.fit(split.rated(split.train), best)
    reports = judged(factors.users, factors.items, split.train, split.test)
    return Result(reports, best, [factors.seconds])


def in_turns(split: Split, side: SideFeatures, results: dict[str, Result]) -> dict[str, Result]:
    """Return ours and implicit ALS with the seconds of fits that took turns."""
    rated, settings = split.rated(split.train), results[ALS].settings
    ours, theirs = [], []
    ours_once = partial(implicit_als.fit, split.train, side, RankingSettings())
    for _ in range(TURNS):
        ours.append(seconds_of(ours_once))
        theirs.append(PEERS[ALS].fit(rated, settings).seconds)
    seconds = {OURS: ours, UNWEIGHED: ours, ALS: theirs}
    return {name: replace(results[name], seconds=seconds[name]) for name in seconds}


def judged(users: Tensor, items: Tensor, train: EncodedRatings, test: EncodedRatings) -> Reports:
    """Judge the lists of the items of the greatest products, counting all and what was liked."""
    both = list_quality.judge(users, items, train, test)
    if both.all is None or both.liked is None:
        raise RuntimeError("No test rating is of a known user and movie.")
    return both.all, both.liked


def ndcgs(reports: Reports) -> tuple[float, ...]:
    """Return NDCG@10 counting all, and counting what was liked."""
    return tuple(report.ndcg_at_10 for report in reports)
