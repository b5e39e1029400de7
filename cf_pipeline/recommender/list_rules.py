"""The rules of the gate on a challenger's lists: how well they find what people watched.

What is surely so is so at an end of a confidence interval, by a paired bootstrap over users.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from cf_pipeline.recommender.bootstrap import Numbers, mean_interval
from cf_pipeline.recommender.candidate import NONE_TO_PREDICT, Candidate
from cf_pipeline.recommender.finding import ANOTHER_TABLE, Finding
from cf_pipeline.recommender.list_quality import ndcg_by_user
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_model import orders

if TYPE_CHECKING:
    from cf_pipeline.recommender.settings import GateSettings


def lists_beat_popularity(challenger: Candidate, settings: GateSettings) -> Finding:
    """Compare the NDCG@10 of lists by the model and by numbers of ratings, on the test part."""
    rule = "lists_beat_popularity"
    encoded = challenger.encoded
    by = orders(challenger.recommender.model, encoded[0])
    judged, ours = ndcg_by_user(*by["ranking_model"], *encoded)
    popular = ndcg_by_user(*by["popularity"], *encoded)[1]
    if len(judged) == 0:
        return Finding(rule, False, "No held-out rating is of a user who is known.", {})
    gap = mean_interval((ours - popular).numpy(), settings)
    return Finding(
        rule,
        gap.low > 0,
        f"NDCG@10 {ours.mean():.4f} over {len(judged):,} users; the difference to the most rated "
        f"movies is {gap}. It must surely be above 0.",
        {"ndcg_at_10": ours.mean().item(), "ndcg_beside_popularity": gap.estimate},
    )


def lists_are_no_worse(
    challenger: Candidate, champion: Candidate, unseen: pd.DataFrame, settings: GateSettings
) -> Finding:
    """Compare the NDCG@10 of both models' lists for users whom both know."""
    rule = "lists_are_no_worse"
    ours, theirs = _ndcg_of_both(challenger, champion, unseen)
    if not len(ours):
        return Finding(rule, False, _why_nobody(challenger, champion), {})
    gap = mean_interval(ours - theirs, settings)
    return Finding(
        rule,
        gap.estimate >= -settings.ndcg_margin,
        f"NDCG@10 {ours.mean():.4f} against {theirs.mean():.4f} over {len(ours):,} users: a "
        f"difference of {gap}. It must not be below {-settings.ndcg_margin:g}.",
        {"ndcg_difference": gap.estimate, "champion_ndcg_at_10": float(theirs.mean())},
    )


def better_lists(
    rule: str,
    challenger: Candidate,
    champion: Candidate,
    unseen: pd.DataFrame,
    settings: GateSettings,
) -> Finding:
    """Ask that the challenger's lists are better, as else of its RMSE."""
    ours, theirs = _ndcg_of_both(challenger, champion, unseen)
    if not len(ours):
        why = _why_nobody(challenger, champion)
        return Finding(rule, False, why, {"compared_ratings": len(unseen)})
    gap = mean_interval(ours - theirs, settings)
    same = np.array_equal(ours, theirs)
    return Finding(
        rule,
        same or (gap.estimate > 0 and gap.low >= -settings.ndcg_margin),
        f"{NONE_TO_PREDICT} NDCG@10 {ours.mean():.4f} against {theirs.mean():.4f} on "
        f"{len(unseen):,} of them: a difference of {gap}. It must be above 0, unless all "
        f"lists find the same, and surely not below {-settings.ndcg_margin:g}.",
        {"compared_ratings": len(unseen)},
    )


def _why_nobody(challenger: Candidate, champion: Candidate) -> str:
    """Return why lists cannot be compared: there is nobody to compare them for."""
    now, before = (one.recommender.users.ids for one in (challenger, champion))
    cause = ""
    if now.dtype != before.dtype:
        kinds = ["integers" if ids.dtype == np.int64 else "text" for ids in (now, before)]
        cause = f" Ids of users are {kinds[0]} now, and were {kinds[1]}"
        others = [user for user in now if not str(user).isdecimal()]
        cause += f": {others[0]!r} is no integer, so all are text." if others else "."
    return (
        f"No rating unseen by both is of a user whom both know.{cause} Correct the ratings, or "
        f"promote the challenger by hand. {ANOTHER_TABLE}"
    )


def _ndcg_of_both(
    challenger: Candidate, champion: Candidate, unseen: pd.DataFrame
) -> tuple[Numbers, Numbers]:
    """Return the NDCG@10 of both models' lists (n_users,) for users whom both know."""
    # What either has seen is left out of both lists: the places it would take are no faults.
    both = challenger, champion
    of_users = pd.concat([_ndcg_of(one, both, unseen) for one in both], axis=1, join="inner")
    ours, theirs = of_users.to_numpy().T
    return ours, theirs


def _ndcg_of(candidate: Candidate, both: Sequence[Candidate], test: pd.DataFrame) -> pd.Series:
    """Return the NDCG@10 of the model's lists of what neither trained on, by the users' ids."""
    trained = [one.encoded[0] if one is candidate else candidate.encode(one.train) for one in both]
    seen = EncodedRatings(*(torch.cat(columns) for columns in zip(*trained, strict=True)))
    model = candidate.recommender.model
    users, ndcg = ndcg_by_user(model.users, model.items, seen, candidate.encode(test))
    return pd.Series(ndcg.numpy(), index=candidate.recommender.users.decode(users.tolist()))
