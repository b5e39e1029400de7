"""Fits on a real Ray cluster of two nodes: the same, bit for bit, whatever dies meanwhile."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cf_pipeline.recommender.encoding import write_encoded
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.synthetic import Synthetic
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings
from cf_pipeline_tests.ray_cluster import in_namespace
from cf_pipeline_tests.recommender.ray_fits import (
    on_a_poisoned_block,
    on_two_nodes,
    where_gpus_are,
)
from cf_pipeline_tests.recommender.simulation import Fold


def write(folder: Path, parts: dict[str, EncodedRatings], side: tuple[torch.Tensor, ...]) -> None:
    for part, ratings in parts.items():
        columns = [column.numpy() for column in ratings]
        write_encoded([columns], len(ratings.ratings), folder, part)
    torch.save(side, folder / "side.pt")


@pytest.fixture
def ml_100k(u1: Fold, tmp_path: Path) -> tuple[Path, GibbsSettings]:
    write(tmp_path, {"train": u1.train, "test": u1.test}, tuple(u1.side))
    return tmp_path, GibbsSettings(
        sweeps=12, burn_in=4, samples=4, kept_samples=2, block_ratings=10_000
    )


@pytest.fixture
def five_million(tmp_path: Path) -> tuple[Path, GibbsSettings]:
    settings = SyntheticSettings(n_ratings=5_000_000, n_users=35_000, n_movies=8_000, seed=5)
    drawn = Synthetic(settings)
    rows = [
        [
            batch["user"].to_numpy(),
            batch["movie"].to_numpy(),
            batch["rating"].to_numpy().astype(np.float32),
        ]
        for batch in drawn.batches()
    ]
    ratings = EncodedRatings.concatenate(rows)
    train = ratings.take(slice(100_000, None))
    side = torch.zeros(settings.users + 1, 0), torch.zeros(settings.movies + 1, 0)
    write(tmp_path, {"train": train, "test": ratings.take(slice(100_000))}, side)
    return tmp_path, GibbsSettings(
        sweeps=3, burn_in=1, samples=2, feature_rank=0, sampled_factors=8, block_ratings=500_000
    )


@pytest.mark.parametrize("data", ["ml_100k", "five_million"])
def test_a_fit_on_two_nodes_is_that_of_one_process_whatever_dies(
    data: str, request: pytest.FixtureRequest
) -> None:
    folder, settings = request.getfixturevalue(data)
    (here, *on_ray), spilled = in_namespace(on_two_nodes, folder, settings, timeout=280)
    assert len(on_ray) == 3
    for found in on_ray:
        assert found == here
    if data == "five_million":  # the node that was left has no room for all blocks
        assert spilled > 0


def test_a_block_that_cannot_be_worked_on_is_named(ml_100k: tuple[Path, GibbsSettings]) -> None:
    folder, settings = ml_100k
    ratings = np.load(folder / "train_ratings.npy", mmap_mode="r+")
    users = np.load(folder / "train_users.npy")
    ratings[users == users.max()] = np.nan
    ratings.flush()
    poisoned, killing = in_namespace(on_a_poisoned_block, folder, settings)
    assert "of the users" in poisoned
    assert f"to {users.max():,})" in poisoned
    assert "a rating is not finite: materialize vocabularies again" in poisoned
    assert killing.startswith("Block 3 of 9 failed: ")


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_tasks_go_to_gpus_where_there_are_any(device: str) -> None:
    nodes, with_gpu = in_namespace(where_gpus_are, device)
    assert (device != "cpu") == ({with_gpu} == {node.split()[-1] for node in nodes})
