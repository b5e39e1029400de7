"""Fits on a real Ray cluster of two nodes: the same, bit for bit, whatever dies meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from cf_pipeline.recommender.encoding import write_encoded
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.ray_cluster import in_namespace

if TYPE_CHECKING:
    from pathlib import Path

    from cf_pipeline_tests.recommender.ray_fits import Session
    from cf_pipeline_tests.recommender.simulation import Fold

FEW = GibbsSettings(sweeps=12, burn_in=4, samples=4, kept_samples=2, block_ratings=10_000)
MANY = GibbsSettings(
    sweeps=2, burn_in=1, samples=1, feature_rank=0, sampled_factors=8, block_ratings=500_000
)
POISONED_USER = 7
# The first test has all of the session: a minute on two free cores.
pytestmark = pytest.mark.timeout(540)


@pytest.fixture(scope="module")
def seen(u1: Fold, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """What was seen of a cluster that had MovieLens 100k and five million synthetic ratings."""
    pytest.importorskip("ray", reason="pip install --editable '.[ray]'")
    from cf_pipeline_tests.recommender.ray_fits import session

    few, many, poisoned = (tmp_path_factory.mktemp(name) for name in ("few", "many", "poisoned"))
    write(few, u1.train, u1.test, tuple(u1.side), FEW)
    drawn = SyntheticSettings(n_ratings=5_000_000, n_users=35_000, n_movies=8_000, seed=5)
    ratings = EncodedRatings.concatenate(columns(drawn))
    side = torch.zeros(drawn.users + 1, 0), torch.zeros(drawn.movies + 1, 0)
    in_test = torch.arange(5_000_000) % 50 == 0
    write(many, ratings.take(~in_test), ratings.take(in_test), side, MANY)
    bad = torch.where(u1.train.users == POISONED_USER, torch.nan, u1.train.ratings)
    write(poisoned, u1.train._replace(ratings=bad), u1.test, tuple(u1.side), FEW)
    found: Session = in_namespace(session, few, many, poisoned, timeout=500)
    return found


def columns(settings: SyntheticSettings) -> list[list[np.ndarray]]:
    return [
        [batch["user"].to_numpy(), batch["movie"].to_numpy(), batch["rating"].to_numpy()]
        for batch in Synthetic(settings).batches()
    ]


def write(
    folder: Path,
    train: EncodedRatings,
    test: EncodedRatings,
    side: tuple[torch.Tensor, ...],
    settings: GibbsSettings,
) -> None:
    for part, ratings in (("train", train), ("test", test)):
        rows = [column.numpy() for column in ratings]
        write_encoded([rows], len(ratings.ratings), folder, part)
    torch.save(side, folder / "side.pt")
    (folder / "settings.json").write_text(settings.model_dump_json(), encoding="utf-8")


def test_a_fit_on_two_nodes_is_that_of_one_process(seen: Session) -> None:
    assert seen.few.on_ray == seen.few.here
    assert seen.many.on_ray == seen.many.here
    assert seen.nodes_at_work == 2


def test_workers_that_are_killed_change_nothing(seen: Session) -> None:
    assert seen.workers_died == seen.many.here


def test_a_node_that_is_lost_changes_nothing(seen: Session) -> None:
    assert seen.node_died == seen.many.here


def test_what_the_object_store_has_no_room_for_goes_to_the_disk(seen: Session) -> None:
    assert seen.bytes_spilled > 0  # one node was left, and its room is for less than all blocks


def test_a_block_that_cannot_be_worked_on_is_named(seen: Session) -> None:
    assert "of the users (" in seen.said_of_poison
    assert "a rating is not finite: materialize vocabularies again" in seen.said_of_poison


def test_a_block_that_kills_whoever_works_on_it_is_named(seen: Session) -> None:
    assert seen.said_of_death.startswith("Block 3 of 9 failed: ")


def test_a_node_with_other_code_is_refused(seen: Session) -> None:
    assert seen.said_of_other_code.startswith("Block 1 failed: cf_pipeline or torch on ")
    assert "bring every node to the same commit" in seen.said_of_other_code


def test_tasks_go_to_gpus_where_there_are_any(seen: Session) -> None:
    assert seen.gpu_tasks == {"cpu": False, "auto": True, "cuda": True}
