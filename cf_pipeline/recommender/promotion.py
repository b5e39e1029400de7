"""Whether a newly fitted model, the challenger, may replace the champion: the rules of the gate.

Models are compared on ratings that neither has seen. What is surely so is so at an end of a
confidence interval, by a paired bootstrap over users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.bootstrap import correlation, rmse_difference
from cf_pipeline.recommender.candidate import NONE_TO_PREDICT, Candidate
from cf_pipeline.recommender.finding import ANOTHER_TABLE, Finding
from cf_pipeline.recommender.list_rules import (
    better_lists,
    lists_are_no_worse,
    lists_beat_popularity,
)
from cf_pipeline.recommender.row_differences import without
from cf_pipeline.recommender.settings import GATE_RULES
from cf_pipeline.recommender.validation import BadRatingsError, check_ratings

if TYPE_CHECKING:
    from cf_pipeline.recommender.settings import GateSettings

PAIR = ["user", "movie"]


def findings(
    challenger: Candidate, champion: Candidate | None, settings: GateSettings
) -> list[Finding]:
    """Hold the challenger to every rule of GATE_RULES; without a champion to those without it."""
    found = [
        ratings_are_sound(challenger),
        challenger_beats_baselines(challenger, settings),
        lists_beat_popularity(challenger, settings),
        intervals_hold(challenger, settings),
    ]
    if champion is not None:
        unseen = rows_of_neither(challenger, champion)
        found += [
            new_ratings_are_plausible(challenger, champion, settings),
            challenger_beats_champion(challenger, champion, unseen, settings),
            lists_are_no_worse(challenger, champion, unseen, settings),
        ]
    return sorted(found, key=lambda finding: list(GATE_RULES).index(finding.rule))


def rows_of_neither(challenger: Candidate, champion: Candidate) -> pd.DataFrame:
    """Return the challenger's held-out ratings whose pair is not in the champion's training part.

    Not even another rating of the same pair may have been seen.
    """
    return without(challenger.test, champion.train, PAIR)


def ratings_are_sound(challenger: Candidate) -> Finding:
    """Hold to `check_ratings` once more: the checks of `ratings` guard only their own runs."""
    rule = "ratings_are_sound"
    try:
        check_ratings(challenger.ratings, challenger.origin.scale, challenger.origin.first_rating)
    except BadRatingsError as error:
        return Finding(rule, False, str(error), {})
    n = len(challenger.ratings)
    return Finding(rule, True, f"All {n:,} ratings do.", {})


def new_ratings_are_plausible(
    challenger: Candidate, champion: Candidate, settings: GateSettings
) -> Finding:
    """Correlate the ratings that are new to the champion with what it predicted.

    New is a pair that it knows nothing of, or a pair that has another rating now. Errors would not
    tell: of honest newcomers, whom no model knows, they can be larger than of shuffled ratings.
    """
    rule = "new_ratings_are_plausible"
    new = without(challenger.ratings, champion.ratings, [*PAIR, "rating"])
    if new.empty:
        return Finding(rule, True, "There are no new ratings.", {"new_ratings": 0})
    if not (challenger.predicts or champion.predicts):
        return Finding(rule, True, NONE_TO_PREDICT, {"new_ratings": len(new)})
    found = correlation(new, champion.predict(new), settings)
    if np.isnan([found.estimate, found.high]).any():
        why = (
            f"All of {len(new):,} new ratings are alike, or predicted alike, which "
            f"{settings.least_rows:,} or more that people mean are not. {ANOTHER_TABLE}"
        )
        return Finding(rule, len(new) < settings.least_rows, why, {"new_ratings": len(new)})
    return Finding(
        rule,
        found.high >= settings.least_correlation,
        f"The correlation of {len(new):,} new ratings with what the champion predicted is "
        f"{found}. It must not surely be below {settings.least_correlation:g}.",
        {"new_ratings": len(new), "correlation_of_new_ratings": found.estimate},
    )


def challenger_beats_baselines(challenger: Candidate, settings: GateSettings) -> Finding:
    """Compare with every simple predictor on the whole test part."""
    if not challenger.predicts:
        return Finding("challenger_beats_baselines", True, NONE_TO_PREDICT, {})
    test, encoded = challenger.test, challenger.encoded
    ours, scale = challenger.predict(test), challenger.scale
    gaps = {
        name: rmse_difference(test, ours, np.clip(predict(*encoded), *scale), settings)
        for name, predict in metrics.BASELINES.items()
    }
    hardest = max(gaps, key=lambda name: gaps[name].high)
    gap = gaps[hardest]
    return Finding(
        "challenger_beats_baselines",
        len(test) >= settings.least_rows and gap.high < 0,
        f"RMSE {metrics.rmse(test['rating'], ours):.4f} on {len(test):,} held-out ratings; the "
        f"difference to {hardest}, the hardest to beat, is {gap}. It must surely be below "
        f"0, on {settings.least_rows:,} ratings or more.",
        {"rmse": metrics.rmse(test["rating"], ours), "rmse_beside_best_baseline": gap.estimate},
    )


def intervals_hold(challenger: Candidate, settings: GateSettings) -> Finding:
    """Look at the share of held-out ratings in the intervals of 90 %."""
    rule = "intervals_hold"
    posterior = challenger.evaluation.get("posterior")
    if posterior is None:
        return Finding(rule, True, "The model has no intervals, and promises nothing.", {})
    coverage = float(posterior["coverage"]["90%"])
    low, high = settings.coverage_range
    return Finding(
        rule,
        low <= coverage <= high,
        f"They hold {coverage:.2%}; from {low:.0%} to {high:.0%} is allowed.",
        {"coverage_of_90_percent": coverage},
    )


def challenger_beats_champion(
    challenger: Candidate, champion: Candidate, unseen: pd.DataFrame, settings: GateSettings
) -> Finding:
    """Compare both models' RMSE on the ratings `unseen` by either; if all are alike, the lists."""
    rule = "challenger_beats_champion"
    if len(unseen) < settings.least_rows:
        return Finding(
            rule,
            False,
            f"Only {len(unseen):,} of {len(challenger.test):,} held-out ratings were not in the "
            f"champion's training part, and {settings.least_rows:,} are needed: use its split, or "
            "a temporal one, or promote the challenger by hand.",
            {"compared_ratings": len(unseen)},
        )
    if not (challenger.predicts or champion.predicts):
        return better_lists(rule, challenger, champion, unseen, settings)
    ours, theirs, scale = challenger.predict(unseen), champion.predict(unseen), challenger.scale
    gap, margin = rmse_difference(unseen, ours, theirs, settings), settings.margin * scale.star
    same = np.array_equal(ours, theirs)  # where a title was corrected, for example
    rmse, champion_rmse = (metrics.rmse(unseen["rating"], one) for one in (ours, theirs))
    return Finding(
        rule,
        same or (gap.estimate < 0 and gap.high <= margin),
        f"RMSE {rmse:.4f} against {champion_rmse:.4f} on {len(unseen):,} ratings: a difference of "
        f"{gap}. It must be below 0, unless all predictions are the same, and surely not "
        f"above {margin:g}.",
        {
            "compared_ratings": len(unseen),
            "compared_rmse": rmse,
            "champion_rmse": champion_rmse,
            "rmse_difference": gap.estimate,
            "rmse_difference_low": gap.low,
            "rmse_difference_high": gap.high,
        },
    )
