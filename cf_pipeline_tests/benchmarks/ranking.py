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
import os
import statistics
import sys
from collections.abc import Mapping
from math import nextafter

import torch

from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline.recommender.splits import Fold
from cf_pipeline_tests.benchmarks.ranking_methods import (
    ALS,
    OURS,
    Result,
    Split,
    ndcgs,
    results_on,
)
from cf_pipeline_tests.benchmarks.ranking_peers import PEERS, Settings
from cf_pipeline_tests.benchmarks.report import Row, Target, print_report
from cf_pipeline_tests.benchmarks.scale_process import Figures, in_own_process
from cf_pipeline_tests.real_data import real_archive

THREADS = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "LK_NUM", "LK_NUM_BACKEND")  # LK is LensKit
ENVIRONMENT = {f"{name}_THREADS": "1" for name in THREADS}
SPLITS: tuple[Fold, ...] = ("ua", "ub")
LEAST_NDCG: dict[Fold, tuple[float, float]] = {"ua": (0.310, 0.322), "ub": (0.302, 0.325)}
ANY_LEAD = nextafter(0, 1)  # a lead of nothing is none
MOST_BEHIND = 0.005
GIB = 1 << 30


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description="Lists beside peers' lists, and their speed.").parse_args()
    torch.set_num_threads(1)
    archive = real_archive()
    ratings = read_ratings(archive).to_pandas()
    tables = read_users(archive).to_pandas(), read_movies(archive).to_pandas()
    results = {name: results_on(Split.of(name, ratings), *tables) for name in SPLITS}
    scored = in_own_process("ranking_scoring:scoring")
    print(f"scoring: {scored}", file=sys.stderr)
    methods = results[SPLITS[0]]
    rows = [row(method, [results[name][method] for name in SPLITS]) for method in methods]
    print_report("ranking", rows, [*accuracy_targets(results), *speed_targets(results, scored)])


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


def speed_targets(results: Mapping[Fold, Mapping[str, Result]], scored: Figures) -> list[Target]:
    """Return the targets of fit time, and of scoring's time and memory."""
    turns = [
        ours / theirs
        for of in results.values()
        for ours, theirs in zip(of[OURS].seconds, of[ALS].seconds, strict=True)
    ]
    groups = zip(scored["list_seconds"], scored["product_seconds"], strict=True)
    ratio = statistics.median(lists / product for lists, product in groups)
    return [
        Target(f"fit seconds / those of {ALS}", statistics.median(turns), 5),
        Target("scoring: seconds / those of the product", ratio, 2),
        Target("scoring: peak GiB", scored["peak_bytes"] / GIB, 1),
    ]


if __name__ == "__main__":
    # Libraries read these as they are loaded, which they are by now: start again.
    if not ENVIRONMENT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)
    main()
