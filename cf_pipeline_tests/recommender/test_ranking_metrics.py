"""The metrics of lists: those of ranx where it has them, and by hand where it has not."""

import json
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pytest
import ranx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_metrics import DEPTH, RankingReport, evaluate, relevant

RANX_NAMES = {
    "ndcg@10": "ndcg_at_10",
    "recall@10": "recall_at_10",
    "precision@10": "precision_at_10",
    "map@100": "map_at_100",
    "mrr@100": "mrr_at_100",
}
SIZES = {"seed": st.integers(0, 2**32 - 1), "n_items": st.integers(2, 250)}


class Case(NamedTuple):
    """What `evaluate` takes."""

    lists: Tensor
    users: Tensor
    items: Tensor
    counts: Tensor
    n_training_users: int = 50


def some_case(seed: int, n_items: int, width: int, n_users: int = 60) -> Case:
    """Return lists of 0 … `width` items, and 0 … 25 relevant items of each user, some unknown."""
    random = np.random.default_rng(seed)
    items = np.tile(np.arange(1, n_items), (n_users, 1))
    lists = np.pad(random.permuted(items, axis=1)[:, :width], ((0, 0), (0, width)))[:, :width]
    lists[np.arange(width) >= random.integers(0, width + 1, (n_users, 1))] = 0
    chosen = [
        np.append(row[: random.integers(0, 23)], [0] * random.integers(0, 4))
        for row in random.permuted(items, axis=1)
    ]
    # One of each, at least, so that there is something to judge.
    chosen[1], lists[1, 0] = np.array([n_items - 1]), 1
    lists[1, 1:] = 0
    return Case(
        torch.tensor(lists, dtype=torch.int32),
        torch.tensor(np.repeat(np.arange(n_users), [len(row) for row in chosen])).int(),
        torch.tensor(np.concatenate(chosen)).int(),
        torch.tensor(random.integers(1, 50, n_items)),
    )


def ranx_means(case: Case) -> dict[str, float]:
    """Return what ranx makes of the users with relevant items.

    Each unknown item is an id of its own past the known ones. Rows of ids and relevances are filled
    with ids that are not relevant.
    """
    judged = [user for user in case.users.unique().tolist() if user > 0]
    longest = int(case.users.bincount().max())
    relevances = np.zeros((len(judged), longest, 2), np.int64)
    for row, user in zip(relevances, judged, strict=True):
        ids = case.items[case.users == user].numpy()
        row[: len(ids), 0] = np.where(ids > 0, ids, len(case.counts) + np.arange(len(ids)))
        row[: len(ids), 1] = 1
    ids = case.lists[judged].long().numpy()
    run = np.stack([np.where(ids > 0, ids, -1), -np.broadcast_to(np.arange(len(ids.T)), ids.shape)])
    means: dict[str, float] = ranx.evaluate(relevances, run.transpose(1, 2, 0), list(RANX_NAMES))
    return means


def close_to(report: RankingReport) -> object:
    return pytest.approx(asdict(report), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(**SIZES, width=st.integers(1, DEPTH + 30))
def test_accuracy_is_what_ranx_finds(seed: int, n_items: int, width: int) -> None:
    case = some_case(seed, n_items, width)
    report = asdict(evaluate(*case))
    for theirs, mean in ranx_means(case).items():
        assert report[RANX_NAMES[theirs]] == pytest.approx(mean, abs=1e-6), theirs


def test_a_small_case_by_hand() -> None:
    case = Case(
        # Row 0 is of no user, and user 3 has nothing relevant.
        lists=torch.tensor([[5, 4], [1, 2], [2, 3], [4, 0]]),
        users=torch.tensor([1, 1, 2, 0]),
        items=torch.tensor([2, 0, 1, 4]),
        counts=torch.tensor([1000, 8, 4, 2, 1, 1]),
        n_training_users=8,
    )
    second = 1 / np.log2(3)
    report = evaluate(*case)
    assert close_to(report) == asdict(
        RankingReport(
            n_users=2,
            ndcg_at_10=second / (1 + second) / 2,
            recall_at_10=1 / 2 / 2,
            precision_at_10=1 / 10 / 2,
            map_at_100=1 / 2 / 2 / 2,
            mrr_at_100=1 / 2 / 2,
            coverage=3 / 5,
            novelty=(0 + 1 + 1 + 2) / 4,
            popularity_bias=((8 + 4 + 4 + 2) / 4) / ((4 + 8) / 2),
        )
    )
    assert json.loads(json.dumps(asdict(report), allow_nan=False)) == asdict(report)


@pytest.mark.parametrize("n_relevant", [1, 10, 12])
def test_an_ideal_list_is_as_good_as_can_be(n_relevant: int) -> None:
    users = torch.ones(n_relevant, dtype=torch.int32)
    lists = torch.arange(1, 21).repeat(2, 1)
    report = evaluate(lists, users, torch.arange(1, n_relevant + 1), torch.ones(30), 1)
    assert (report.ndcg_at_10, report.map_at_100, report.mrr_at_100) == pytest.approx((1, 1, 1))
    assert report.recall_at_10 == pytest.approx(min(10, n_relevant) / n_relevant)
    assert report.precision_at_10 == pytest.approx(min(10, n_relevant) / 10)
    assert report.coverage == pytest.approx(10 / 29)


@pytest.mark.parametrize(("rank", "reciprocal"), [(11, 1 / 11), (100, 1 / 100), (101, 0)])
def test_what_people_do_not_see_counts_only_as_far_as_depth(rank: int, reciprocal: float) -> None:
    lists = torch.arange(1, 121).repeat(2, 1)
    report = evaluate(lists, torch.tensor([1]), torch.tensor([rank]), torch.arange(121), 120)
    assert report.mrr_at_100 == report.map_at_100 == pytest.approx(reciprocal)
    assert report.ndcg_at_10 == report.recall_at_10 == report.precision_at_10 == 0
    assert report.popularity_bias == pytest.approx(5.5 / rank)
    assert report.coverage == pytest.approx(10 / 120)


def test_each_unknown_item_is_one_more_that_is_missed() -> None:
    lists, counts = torch.tensor([[0, 0, 0], [1, 2, 0]]), torch.tensor([0, 3, 3])
    reports = [
        evaluate(lists, torch.ones(1 + n).int(), torch.tensor([1] + [0] * n), counts, 5)
        for n in range(3)
    ]
    assert [report.recall_at_10 for report in reports] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [report.popularity_bias for report in reports] == [1, 1, 1]
    ideals = np.cumsum(1 / np.log2([2, 3, 4]))
    assert [report.ndcg_at_10 for report in reports] == pytest.approx(1 / ideals)


@given(**SIZES)
def test_the_order_of_users_and_of_ratings_does_not_matter(seed: int, n_items: int) -> None:
    case = some_case(seed, n_items, width=20)
    random = np.random.default_rng(seed)
    order = torch.tensor(np.append(0, 1 + random.permutation(len(case.lists) - 1)))
    rows = torch.tensor(random.permutation(len(case.users)))
    shuffled = case._replace(
        lists=case.lists[order], users=order.argsort()[case.users][rows], items=case.items[rows]
    )
    assert asdict(evaluate(*shuffled)) == close_to(evaluate(*case))


@given(**SIZES)
def test_unknown_users_do_not_matter(seed: int, n_items: int) -> None:
    case = some_case(seed, n_items, width=20)
    known = case.users > 0
    lists = case.lists.clone()
    lists[0] = 0
    without = case._replace(lists=lists, users=case.users[known], items=case.items[known])
    assert evaluate(*without) == evaluate(*case)


def test_everything_stays_on_the_device_of_the_lists() -> None:
    case = some_case(seed=0, n_items=40, width=20)
    expected = evaluate(*case)
    with torch.device("meta"):  # where a tensor that is made without a device would be
        assert evaluate(*case) == expected


def test_relevant_are_the_ratings_of_known_users_that_are_high_enough() -> None:
    test = EncodedRatings(
        torch.tensor([1, 0, 2, 2, 3]).int(),
        torch.tensor([7, 7, 0, 8, 9]).int(),
        torch.tensor([4.0, 5.0, 5.0, 3.5, 1.0]),
    )
    users, items = relevant(test, 4)
    assert (users.tolist(), items.tolist()) == ([1, 2], [7, 0])
    users, items = relevant(test, 1)
    assert (users.tolist(), items.tolist()) == ([1, 2, 2, 3], [7, 0, 8, 9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": [0, 0]}, "None of 2 relevant ratings is of a user and an item with training"),
        ({"items": [0, 0]}, "None of 2 relevant ratings .*: choose a split"),
        ({"users": [], "items": []}, "None of 0 relevant ratings .* lower ratings"),
        ({"lists": [[1, 2], [0, 0], [0, 0]]}, "None of 2 users judged has a recommendation: give"),
        ({"lists": [[0, 0], [1, 4], [1, 2]]}, "There is item 4, but items are 0 … 3: encode"),
        ({"lists": [[0, 0], [1, -1], [1, 2]]}, "There is item -1, but items are 0 … 3"),
        ({"items": [1, 9]}, "There is item 9, but items are 0 … 3"),
        ({"users": [1, 3]}, "There is user 3, but users are 0 … 2"),
        ({"counts": [9, 1, 0, 1]}, "Item 2 is recommended, but has 0 training ratings: count"),
    ],
)
def test_what_cannot_be_judged_is_refused(change: dict[str, Any], message: str) -> None:
    case = Case(
        lists=torch.tensor([[0, 0], [1, 2], [3, 0]]),
        users=torch.tensor([1, 2]),
        items=torch.tensor([1, 1]),
        counts=torch.tensor([0, 1, 1, 1]),
    )
    evaluate(*case)
    wrong: dict[str, Any] = {
        name: torch.tensor(value, dtype=torch.int64) for name, value in change.items()
    }
    with pytest.raises(ValueError, match=message):
        evaluate(*case._replace(**wrong))
