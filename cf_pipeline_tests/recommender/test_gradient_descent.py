"""Fits by gradient descent: what they reach on real ratings, and what a fit must never do."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cf_pipeline.recommender import metrics
from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.fits import Fit
from cf_pipeline.recommender.gradient_descent import fit
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import PLAIN, GradientDescentSettings
from cf_pipeline_tests.recommender.simulation import Fold, some_ratings

PRIOR = GradientDescentSettings()
SMALL_PRIOR = GradientDescentSettings(n_factors=4, feature_rank=6, batch_size=50, epochs=3)
SMALL_PLAIN = SMALL_PRIOR.model_copy(update={"feature_rank": 0})
SMALL = pytest.mark.parametrize("settings", [SMALL_PRIOR, SMALL_PLAIN], ids=["prior", "plain"])


@pytest.fixture(scope="module")
def fitted(u1: Fold) -> Fit:
    """The default fit to u1's training part; not to be changed."""
    return fit(u1.train, u1.side, PRIOR)


@torch.no_grad()
def errors(fit: Fit, part: EncodedRatings) -> tuple[float, float]:
    """Return the fit's RMSE and MAE on a part, its predictions clamped to the rating scale."""
    predicted = fit.model(part.users, part.items).clamp(*fit.model.rating_scale).numpy()
    actual = part.ratings.numpy()
    return metrics.rmse(actual, predicted), metrics.mae(actual, predicted)


def same_tables(one: Fit, other: Fit) -> bool:
    tables, others = one.model.state_dict(), other.model.state_dict()
    assert tables.keys() == others.keys()
    return all(torch.equal(tables[name], others[name]) for name in tables)


def test_the_default_recipe_reaches_its_bar_on_u1(u1: Fold, fitted: Fit) -> None:
    assert errors(fitted, u1.test)[0] <= 0.892


def test_the_plain_recipe_reaches_its_bar_on_u1(u1: Fold) -> None:
    assert errors(fit(u1.train, u1.side, PLAIN), u1.test)[0] <= 0.92


@pytest.mark.parametrize("feature_rank", [0, 64])
def test_half_precision_costs_little_and_gives_a_plain_model(u1: Fold, feature_rank: int) -> None:
    rest, validation = u1.train.carve(0.1, 0)
    exact, half = (
        fit(
            rest,
            u1.side,
            GradientDescentSettings(feature_rank=feature_rank, table_dtype=dtype, epochs=5),
        ).model
        for dtype in ("float32", "bfloat16")
    )
    assert {table.weight.dtype for table in half.tables().values()} == {torch.float32}
    of_exact, of_half = (
        metrics.rmse(
            validation.ratings.numpy(),
            model.predict_indices(validation.users, validation.items).numpy(),
        )
        for model in (exact, half)
    )
    assert of_half != of_exact
    assert of_half == pytest.approx(of_exact, abs=0.005)


def test_the_loss_that_is_minimised_is_the_lower_one(u1: Fold, fitted: Fit) -> None:
    of_l1 = fit(u1.train, u1.side, PRIOR.model_copy(update={"loss": "l1"}))
    (rmse, mae), (l1_rmse, l1_mae) = errors(fitted, u1.test), errors(of_l1, u1.test)
    assert l1_mae < mae
    assert l1_rmse > rmse


def test_a_fit_is_the_same_bit_for_bit_each_time(u1: Fold, fitted: Fit) -> None:
    torch.manual_seed(99)  # on which nothing may hang
    again = fit(u1.train, u1.side, PRIOR)
    assert same_tables(again, fitted)
    assert again.progress == fitted.progress


@SMALL
def test_a_fit_follows_its_seed(settings: GradientDescentSettings) -> None:
    one, again, other = (
        fit(*some_ratings(), settings.model_copy(update={"seed": seed})) for seed in (3, 3, 4)
    )
    assert same_tables(one, again)
    assert not same_tables(one, other)


def test_ratings_in_temporary_files_make_no_difference() -> None:
    in_files = SMALL_PRIOR.model_copy(update={"memory_gib": 0})
    one, other = (
        fit(*some_ratings(), settings).model.state_dict() for settings in (SMALL_PRIOR, in_files)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert in_files.model_dump() == SMALL_PRIOR.model_dump()


def test_the_first_factors_follow_the_seed() -> None:
    update = {"batch_size": 400, "epochs": 1}  # one batch, whose order does not matter
    one, other = (
        fit(*some_ratings(), SMALL_PLAIN.model_copy(update=update | {"seed": seed})).model
        for seed in (0, 1)
    )
    assert not torch.allclose(one.user_factors.weight, other.user_factors.weight, atol=1e-3)


def test_the_learning_curve_ends_where_the_model_stands(u1: Fold, fitted: Fit) -> None:
    columns = pd.DataFrame(list(fitted.progress)).to_dict("list")
    train_rmse = columns["train_rmse"]
    assert list(columns) == ["epoch", "train_rmse", "validation_rmse"]
    assert columns["epoch"] == list(range(1, PRIOR.epochs + 1))
    assert train_rmse == sorted(train_rmse, reverse=True)
    assert train_rmse[-1] == pytest.approx(errors(fitted, u1.train)[0], abs=1e-5)
    assert set(columns["validation_rmse"]) == {None}
    assert fitted.seconds > 0


@SMALL
def test_a_validation_part_is_judged_and_not_learned_from(
    settings: GradientDescentSettings,
) -> None:
    ratings, side = some_ratings()
    train, validation = ratings.take(torch.arange(300)), ratings.take(torch.arange(300, 400))
    without, with_part = fit(train, side, settings), fit(train, side, settings, validation)
    assert same_tables(without, with_part)
    blind = [{**epoch, "validation_rmse": None} for epoch in with_part.progress]
    assert blind == without.progress
    known = with_part.progress[-1]["validation_rmse"]
    assert known == pytest.approx(errors(with_part, validation)[0], abs=1e-5)


@SMALL
@pytest.mark.parametrize("bias", [True, False])
def test_a_fit_ends_as_a_plain_model(settings: GradientDescentSettings, bias: bool) -> None:
    model = fit(*some_ratings(), settings.model_copy(update={"bias": bias})).model
    shapes = {"user_factors": (21, 4), "item_factors": (31, 4)}
    if bias:
        shapes |= {"user_bias": (21, 1), "item_bias": (31, 1)}
    assert type(model) is FactorModel
    assert list(model.tables()) == list(shapes)
    assert {type(table) for table in model.tables().values()} == {nn.Embedding}
    found = {name: tuple(table.shape) for name, table in model.state_dict().items()}
    assert found == {f"{name}.weight": shape for name, shape in shapes.items()}


def test_row_0_is_the_mean_of_the_others(fitted: Fit) -> None:
    for table in fitted.model.state_dict().values():
        torch.testing.assert_close(table[0], table[1:].mean(dim=0))
        assert table[0].any()


@SMALL
def test_predictions_stay_inside_the_y_range(settings: GradientDescentSettings) -> None:
    narrow = settings.model_copy(update={"y_range": [0.9, 5.1], "epochs": 20})
    model = fit(*some_ratings(), narrow).model
    users, items = torch.cartesian_prod(torch.arange(21), torch.arange(31)).T
    predicted = model(users, items).detach().numpy()
    assert predicted.min() > 0.9
    assert predicted.max() < 5.1
    assert np.ptp(predicted) > 0.3


@pytest.mark.parametrize("y_range", [[1.0, 5.5], [0.0, 5.0], [2.0, 3.0], [5.5, 0.0]])
def test_a_range_that_does_not_reach_beyond_the_scale_is_refused(y_range: list[float]) -> None:
    settings = SMALL_PLAIN.model_copy(update={"y_range": y_range})
    with pytest.raises(ValueError, match=r"must reach beyond the ratings, 1 to 5, .*raise its"):
        fit(*some_ratings(), settings)


def test_features_say_something_of_who_rated_nothing() -> None:
    users, items = torch.cartesian_prod(torch.arange(1, 17), torch.arange(1, 9)).int().T
    kind = torch.arange(19) % 2  # the odd users rate 5, the even 1
    side = SideFeatures(torch.eye(2)[kind].index_fill(0, torch.tensor(0), 0), torch.zeros(9, 1))
    ratings = EncodedRatings(users, items, 1 + 4 * kind[users].float())
    update = {"epochs": 30, "n_factors": 4, "batch_size": 16}

    def of_unseen_users(feature_rank: int) -> tuple[float, float]:
        settings = PRIOR.model_copy(update=update | {"feature_rank": feature_rank})
        odd, even = fit(ratings, side, settings).model(torch.tensor([17, 18]), torch.tensor([3, 3]))
        return odd.item(), even.item()

    odd, even = of_unseen_users(feature_rank=4)
    assert odd - even > 1.5
    odd, even = of_unseen_users(feature_rank=0)
    assert odd == pytest.approx(even, abs=0.1)


def test_each_epoch_is_logged_on_a_line() -> None:
    lines: list[str] = []
    result = fit(*some_ratings(), SMALL_PRIOR, log=lines.append)
    assert lines == [
        f"epoch {n} of 3, train_rmse {epoch['train_rmse']:.4g}"
        for n, epoch in enumerate(result.progress, start=1)
    ]


@pytest.mark.parametrize("epochs", range(1, 6))
def test_a_fit_may_be_of_any_few_steps(epochs: int) -> None:
    """Of four, OneCycleLR once divided by zero."""
    one_batch = SMALL_PRIOR.model_copy(update={"epochs": epochs, "batch_size": 1000})
    assert len(fit(*some_ratings(30), one_batch).progress) == epochs


@SMALL
def test_a_fit_that_diverges_is_refused(settings: GradientDescentSettings) -> None:
    with pytest.raises(FloatingPointError, match="diverged in epoch 1: lower learning_rate"):
        fit(*some_ratings(), settings.model_copy(update={"learning_rate": 1e10}))
