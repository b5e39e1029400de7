"""Lists on MovieLens 100k beside peers' lists, one thread, and how fast many lists are made.

The table is of the official splits ua and ub, whose test parts are ten ratings of each user. Every
item that a user did not rate in training is a candidate; `ranking_metrics` has the protocol. NDCG
is given twice: all test ratings are relevant, or only those of four stars or more. The other
figures count all, and are means over both splits.

Ours alone takes the side tables, but for a row of its implicit factors without them; no peer takes
them here. It is the whole recipe: its weight of predicted ratings is found on rows carved from the
training part. Each peer's settings are chosen from its grid on the same carved rows, by the same
sum of both NDCGs, and it is then fitted again to the whole training part. Ours has its defaults.
The table has the values that were found, those of a peer in its grid's order.

Fit seconds are a peer's library's `fit` on the whole training part, and of ours the implicit
factors alone, features included, as `RankingFit.seconds` tells. Ours and implicit ALS take turns,
and the ratio is the median of the turns' own. Whole seconds are more only with ours: the side
tables' encoding, both models of ratings and the weighing too. Nobody's have the choice of settings.

Scoring has a process of its own: the best items of synthetic factors, as wide as the default
model's. The product of the same blocks of users with all items takes turns with it. Peak memory is
the greatest resident set of that process in its life.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import nextafter
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
from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline.recommender.ranking_metrics import RankingReport
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline.recommender.splits import Fold, official_fold
from cf_pipeline.recommender.top_items import SCORES_AT_ONCE, Seen, top_items
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.benchmarks.ranking_peers import PEERS, Peer, Rated, Settings
from cf_pipeline_tests.benchmarks.report import Row, Target, print_report
from cf_pipeline_tests.real_data import real_archive

THREADS = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "LK_NUM", "LK_NUM_BACKEND")  # LK is LensKit
ENVIRONMENT = {f"{name}_THREADS": "1" for name in THREADS}
SPLITS: tuple[Fold, ...] = ("ua", "ub")
CARVED, CARVE_SEED = 0.1, 0
OURS, UNWEIGHED, RATING = "ours", "ours without rating", "by predicted rating alone"
IDS_ONLY = "ours, ids only"
ALS = "implicit ALS"
TURNS = 3
LEAST_NDCG: dict[Fold, tuple[float, float]] = {"ua": (0.310, 0.322), "ub": (0.302, 0.325)}
ANY_LEAD = nextafter(0, 1)  # a lead of nothing is none
MOST_BEHIND = 0.005
USERS, ITEMS, SEEN, BEST = 100_000, 50_000, 100, 20
WIDTH = RankingSettings().n_factors + GibbsSettings().n_factors + 1
GROUP = 10_000
GIB = 1 << 30
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


@dataclass(frozen=True)
class Scoring:
    """Seconds of each group of users for the product alone and for the lists, and memory."""

    product_seconds: list[float]
    list_seconds: list[float]
    peak_bytes: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Lists beside peers' lists, and their speed.")
    parser.add_argument("--scoring", action="store_true", help=argparse.SUPPRESS)
    torch.set_num_threads(1)
    if parser.parse_args().scoring:
        print(json.dumps(asdict(scoring())))
        return
    archive = real_archive()
    ratings = read_ratings(archive).to_pandas()
    tables = read_users(archive).to_pandas(), read_movies(archive).to_pandas()
    results = {name: results_on(Split.of(name, ratings), *tables) for name in SPLITS}
    scored = scoring_in_own_process()
    print(f"scoring: {scored}", file=sys.stderr)
    methods = results[SPLITS[0]]
    rows = [row(method, [results[name][method] for name in SPLITS]) for method in methods]
    print_report("ranking", rows, [*accuracy_targets(results), *speed_targets(results, scored)])


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
    for _ in range(TURNS):
        ours.append(timed(implicit_als.fit, split.train, side, RankingSettings()))
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


def row(name: str, results: list[Result]) -> Row:
    """Return a method's line of the table, from its results on ua and ub."""
    every = [result.reports[0] for result in results]
    ua, ub = (ndcgs(result.reports) for result in results)
    seconds = [second for result in results for second in result.seconds]
    further = [result.further_seconds for result in results]
    settings = dict.fromkeys(described(result.settings) for result in results)
    return {
        "method": name,
        "ua NDCG@10": ua[0],
        "ub NDCG@10": ub[0],
        "ua NDCG@10 (≥ 4)": ua[1],
        "ub NDCG@10 (≥ 4)": ub[1],
        "recall@10": statistics.fmean(report.recall_at_10 for report in every),
        "MAP@100": statistics.fmean(report.map_at_100 for report in every),
        "coverage": statistics.fmean(report.coverage for report in every),
        "fit seconds": statistics.median(seconds),
        "whole seconds": statistics.median(seconds) + statistics.fmean(further),
        "settings (ua | ub)": " | ".join(settings),
        "seconds of each fit": seconds,
    }


def described(settings: Settings) -> str:
    """Return the values of settings, in their order."""
    return "/".join(f"{value:g}" for value in settings.values()) or "none"


def accuracy_targets(results: Mapping[Fold, Mapping[str, Result]]) -> list[Target]:
    """Return the targets of NDCG@10, and of our leads over each peer by it."""
    found = []
    for name, least in LEAST_NDCG.items():
        ours = ndcgs(results[name][OURS].reports)
        found += [
            Target(f"{name}: NDCG@10", ours[0], least=least[0]),
            Target(f"{name}: NDCG@10 (≥ 4)", ours[1], least=least[1]),
        ]
        for peer in PEERS:
            theirs = ndcgs(results[name][peer].reports)
            leads = [a - b for a, b in zip(ours, theirs, strict=True)]
            found += [
                Target(f"{name}: larger lead over {peer}", max(leads), least=ANY_LEAD),
                Target(f"{name}: smaller lead over {peer}", min(leads), least=-MOST_BEHIND),
            ]
    return found


def speed_targets(results: Mapping[Fold, Mapping[str, Result]], scored: Scoring) -> list[Target]:
    """Return the targets of fit time, and of scoring's time and memory."""
    turns = [
        ours / theirs
        for of in results.values()
        for ours, theirs in zip(of[OURS].seconds, of[ALS].seconds, strict=True)
    ]
    groups = zip(scored.list_seconds, scored.product_seconds, strict=True)
    ratio = statistics.median(lists / product for lists, product in groups)
    return [
        Target(f"fit seconds / those of {ALS}", statistics.median(turns), 5),
        Target("scoring: seconds / those of the product", ratio, 2),
        Target("scoring: peak GiB", scored.peak_bytes / GIB, 1),
    ]


def scoring_in_own_process() -> Scoring:
    """Measure scoring, and nothing else, in a new process."""
    command = [sys.executable, "-m", "cf_pipeline_tests.benchmarks.ranking", "--scoring"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Scoring(**json.loads(done.stdout))


def scoring() -> Scoring:
    """Make synthetic lists, a group of users after the other."""
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, WIDTH, generator=generator) for n in (USERS, ITEMS))
    rows, columns = (
        torch.randint(1, n, (SEEN * USERS,), dtype=torch.int32, generator=generator)
        for n in (USERS, ITEMS)
    )
    seen = Seen.of(rows, columns, USERS)
    size = SCORES_AT_ONCE // ITEMS  # as many users at once as `top_items` takes

    def product(some: Tensor) -> None:
        for block in some.split(size):
            block @ items.T

    products, lists = [], []
    for group in torch.arange(USERS).split(GROUP):
        some, of_some = users[group], seen.take(group)
        products.append(timed(product, some))
        lists.append(timed(top_items, some, items, of_some, BEST))
    kib = 1 if sys.platform == "darwin" else 1024  # there ru_maxrss is in bytes already
    peak_bytes = kib * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Scoring(products, lists, peak_bytes)


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Return how many seconds `work` takes."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    # Libraries read these as they are loaded, which they are by now: start again.
    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)
    main()
