"""What a fit by Gibbs sampling must always do, and never."""

import pytest
import torch

from cf_pipeline.recommender.executors import BlockError
from cf_pipeline.recommender.gibbs import Sampled, fit
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.posterior import Sample
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline_tests.recommender.simulation import Fold, rmse, some_ratings

SMALL = GibbsSettings(sampled_factors=3, feature_rank=4, sweeps=9, burn_in=3, samples=6)
BOTH = pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])


def small(**changed: object) -> GibbsSettings:
    return SMALL.model_copy(update=changed)


def same_samples(one: Sampled, other: Sampled) -> bool:
    return all(
        torch.equal(getattr(one.posterior, name), getattr(other.posterior, name))
        for name in Sample._fields
    )


@BOTH
def test_a_fit_is_the_same_bit_for_bit_for_its_seed_and_differs_for_another(
    likelihood: str,
) -> None:
    settings = small(likelihood=likelihood)
    one = fit(*some_ratings(), settings)
    torch.manual_seed(99)  # on which nothing may hang
    before = torch.get_rng_state()
    again = fit(*some_ratings(), settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_samples(one, again)
    assert one.trace == again.trace
    assert not same_samples(one, fit(*some_ratings(), small(likelihood=likelihood, seed=1)))


@BOTH
def test_ratings_in_temporary_files_make_no_difference(likelihood: str) -> None:
    settings = small(likelihood=likelihood)
    in_files = settings.model_copy(update={"memory_gib": 0})
    assert same_samples(fit(*some_ratings(), settings), fit(*some_ratings(), in_files))
    assert in_files.model_dump() == settings.model_dump()  # nor in what a result is told by


def test_the_number_of_threads_hardly_matters(u1: Fold) -> None:
    threads, reached = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            posterior = fit(u1.train, u1.side, small(sweeps=6)).posterior
            reached.append(rmse(posterior.predict(u1.test.users, u1.test.items).mean, u1.test))
    finally:
        torch.set_num_threads(threads)
    assert reached[0] == pytest.approx(reached[1], abs=1e-4)


@BOTH
def test_a_validation_part_is_judged_and_never_learnt_from(likelihood: str) -> None:
    ratings, side = some_ratings()
    train, validation = ratings.carve(0.25, seed=0)
    settings = small(likelihood=likelihood)
    without, judged = fit(train, side, settings), fit(train, side, settings, validation)
    assert same_samples(without, judged)
    assert [sweep._replace(validation_rmse=None) for sweep in judged.trace] == without.trace
    known = [sweep.validation_rmse for sweep in judged.trace]
    assert known[:3] == [None] * 3
    assert None not in known[3:]
    mean = judged.posterior.predict(validation.users, validation.items).mean
    assert known[-1] == pytest.approx(rmse(mean, validation), rel=1e-5)  # all six are kept


def test_the_trace_has_a_row_for_each_sweep(sampled: Sampled) -> None:
    assert [sweep.sweep for sweep in sampled.trace] == list(range(1, 151))
    assert {sweep.validation_rmse for sweep in sampled.trace} == {None}
    last = sampled.trace[-1]
    precision = sampled.posterior.user_precision[-1]
    assert last.noise_std == pytest.approx(precision.rsqrt().mean().item(), rel=1e-5)
    assert 0.7 < last.noise_std < 0.9
    assert 0.2 < last.item_std < last.user_std < 0.4


def test_the_kept_samples_are_evenly_spaced_to_the_last_sweep() -> None:
    every, few = (fit(*some_ratings(), small(samples=n)).posterior for n in (100, 3))
    assert len(every.mean) == 6
    assert torch.equal(few.mean, every.mean[1::2])
    assert torch.equal(few.user_weights[:, 1:], every.user_weights[1::2, 1:])


def test_a_line_is_logged_every_25_sweeps_and_at_the_end() -> None:
    lines: list[str] = []
    trace = fit(*some_ratings(), small(sweeps=30), log=lines.append).trace
    for line, sweep in zip(lines, (trace[24], trace[29]), strict=True):
        assert line.startswith(f"sweep {sweep.sweep} of 30, noise_std {sweep.noise_std:.4g}, ")


@BOTH
def test_the_unknown_is_drawn_from_among_the_others(likelihood: str) -> None:
    posterior = fit(*some_ratings(), small(likelihood=likelihood)).posterior
    for weights in (posterior.user_weights, posterior.item_weights):
        unknown, others = weights[:, 0], weights[:, 1:]
        off = unknown.mean(dim=0) - others.mean(dim=(0, 1))
        spread = others.var(dim=1).mean(dim=0).sqrt()
        assert (off.abs() < spread).all()
        assert (unknown.std(dim=0) > spread / 4).all()


@BOTH
@pytest.mark.parametrize("settings", [SMALL, small(feature_rank=0)], ids=["features", "none"])
def test_a_scale_of_half_stars_has_ten_levels(settings: GibbsSettings, likelihood: str) -> None:
    ratings, side = some_ratings(n_levels=10)
    halves = ratings._replace(ratings=ratings.ratings / 2)
    posterior = fit(halves, side, settings.model_copy(update={"likelihood": likelihood})).posterior
    predicted = posterior.predict(ratings.users, ratings.items)
    assert posterior.levels.tolist() == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert predicted.probabilities.shape == (400, 10)
    shares = torch.bincount(ratings.ratings.long(), minlength=11)[1:] / 400
    assert predicted.probabilities.mean(dim=0) == pytest.approx(shares, abs=0.05)


def test_ratings_that_are_far_too_large_make_a_fit_diverge_and_that_is_said() -> None:
    ratings, side = some_ratings()
    ratings.ratings[7] = 1e25
    with pytest.raises(FloatingPointError, match=r"diverged in sweep 1 \(.*give fewer sampled_fac"):
        fit(ratings, side, SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_ratings_that_are_no_numbers_are_refused_with_the_name_of_their_block(value: float) -> None:
    ratings, side = some_ratings()
    ratings.ratings[7] = value
    with pytest.raises(BlockError, match=r"Block . of 4 of the users .* a rating is not finite"):
        fit(ratings, side, small(block_ratings=100))


def test_a_burn_in_that_leaves_no_sweep_is_refused() -> None:
    with pytest.raises(ValueError, match="burn_in"):
        fit(*some_ratings(), small(sweeps=3, burn_in=3))


@BOTH
def test_there_may_be_fewer_users_than_factors(likelihood: str) -> None:
    ratings, side = some_ratings()
    few = ratings.users <= 4
    of_few = EncodedRatings(*(column[few] for column in ratings))
    settings = small(likelihood=likelihood, sampled_factors=16)
    posterior = fit(of_few, side._replace(users=side.users[:5]), settings).posterior
    assert posterior.predict(of_few.users, of_few.items).mean.isfinite().all()
