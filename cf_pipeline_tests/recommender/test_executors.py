"""Fits whose tasks run elsewhere, as pickles and in any order: the same, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from cf_pipeline.recommender import gibbs, implicit_als
from cf_pipeline.recommender.encoding import write_encoded
from cf_pipeline.recommender.executors import LOCAL, BlockError, Executor, Part
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Sample
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline_tests.recommender.executors import PICKLING
from cf_pipeline_tests.recommender.simulation import Fold, some_ratings

OF_A_BLOCK = 15_000
FEW_SWEEPS = GibbsSettings(
    sampled_factors=8, feature_rank=16, sweeps=5, burn_in=2, samples=2, block_ratings=OF_A_BLOCK
)
FEW_ITERATIONS = RankingSettings(
    n_factors=8, feature_rank=16, iterations=2, block_ratings=OF_A_BLOCK
)


class Parts(NamedTuple):
    train: EncodedRatings
    validation: EncodedRatings
    side: SideFeatures


@pytest.fixture(params=["in memory", "mapped"])
def parts(u1: Fold, request: pytest.FixtureRequest, tmp_path: Path) -> Parts:
    """U1's ratings, in memory or in files that are mapped."""
    both = {"train": u1.train, "test": u1.test}
    if request.param == "mapped":
        for name, part in both.items():
            columns = [column.numpy() for column in part]
            write_encoded([columns], len(part.ratings), tmp_path, name)
        both = {name: EncodedRatings.load(tmp_path, name) for name in both}
    return Parts(both["train"], both["test"], u1.side)


def test_samples_are_the_same_whoever_draws_them(parts: Parts) -> None:
    train, validation, side = parts
    here, there = (
        gibbs.fit(train, side, FEW_SWEEPS, validation, executor=executor)
        for executor in (LOCAL, PICKLING)
    )
    for name in Sample._fields:
        assert torch.equal(getattr(here.posterior, name), getattr(there.posterior, name)), name
    assert here.trace == there.trace


def test_factors_are_the_same_whoever_finds_them(parts: Parts) -> None:
    here, there = (
        implicit_als.fit(parts.train, parts.side, FEW_ITERATIONS, executor=executor)
        for executor in (LOCAL, PICKLING)
    )
    assert all(map(torch.equal, here, there))


def test_the_blocks_of_ratings_decide_what_is_drawn_and_hardly_what_is_solved(u1: Fold) -> None:
    one_block = {"block_ratings": 1 << 22}
    drawn = [
        gibbs.fit(u1.train, u1.side, settings).posterior.user_weights
        for settings in (FEW_SWEEPS, FEW_SWEEPS.model_copy(update=one_block))
    ]
    assert not torch.equal(*drawn)
    solved = [
        implicit_als.fit(u1.train, u1.side, settings).users
        for settings in (FEW_ITERATIONS, FEW_ITERATIONS.model_copy(update=one_block))
    ]
    torch.testing.assert_close(*solved, rtol=1e-3, atol=1e-4)


def test_latent_ratings_which_both_sides_share_are_drawn_in_this_process() -> None:
    ordinal = GibbsSettings(likelihood="ordinal", sweeps=2, burn_in=1)
    lines: list[str] = []
    here, there = (
        gibbs.fit(*some_ratings(), ordinal, log=lines.append, executor=executor)
        for executor in (LOCAL, PICKLING)
    )
    assert torch.equal(here.posterior.user_weights, there.posterior.user_weights)
    assert lines.count("The ordinal likelihood is fitted in the run's own process.") == 1


def inverse(number: int, of: float) -> float:
    return of / number


@pytest.mark.parametrize("executor", [LOCAL, PICKLING], ids=["here", "elsewhere"])
def test_what_tasks_return_comes_in_the_order_of_their_parts(executor: Executor) -> None:
    parts = [Part(f"Part {number}", 1, (number,)) for number in (4, 2, 1)]
    assert list(executor.map(inverse, parts, 8.0)) == [2, 4, 8]
    kept = [Part("", 1, (one,)) for one in executor.keep(inverse, parts, 8.0)]
    assert list(executor.map(inverse, kept, 8.0)) == [4, 2, 1]


@pytest.mark.parametrize("executor", [LOCAL, PICKLING], ids=["here", "elsewhere"])
@pytest.mark.parametrize("way", ["map", "keep"])
def test_a_task_that_fails_is_named_with_its_cause(executor: Executor, way: str) -> None:
    parts = [Part(f"Part {number}", 1, (number,)) for number in (4, 0, 1)]
    run: Callable[..., object] = getattr(executor, way)
    with pytest.raises(BlockError, match=r"^Part 0 failed: float division by zero\.$") as error:
        list(run(inverse, parts, 8.0))  # type: ignore[call-overload]  # map's or keep's, of which neither is told
    assert isinstance(error.value.__cause__, ZeroDivisionError)
