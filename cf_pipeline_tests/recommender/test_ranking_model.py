"""The model that lists are made with: its scores, its files, and who is added to it."""

from pathlib import Path

import pytest
import torch

from cf_pipeline.recommender.factor_model import FactorModel
from cf_pipeline.recommender.ranking_model import RankingModel
from cf_pipeline_tests.recommender.some_models import (
    MOVIES,
    N_ITEMS,
    N_USERS,
    USERS,
    some_ranking_model,
)

BOTH = pytest.mark.parametrize("bias", [True, False])


@BOTH
@torch.no_grad()
def test_scores_are_choice_and_weighed_rating_but_for_what_does_not_rank(bias: bool) -> None:
    model = some_ranking_model(bias)
    users, items = torch.cartesian_prod(torch.arange(N_USERS), torch.arange(N_ITEMS)).T
    low, high = model.rating.y_range
    x = torch.logit((model.rating(users, items).double() - low) / (high - low))
    if bias:
        x -= model.rating.user_bias.weight[users, 0]
    chosen = (model.implicit.users[users] * model.implicit.items[items]).sum(dim=1)
    found = model.users @ model.items.T
    expected = (chosen + model.weight * x).view(N_USERS, N_ITEMS).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not found.requires_grad


@BOTH
def test_a_saved_model_is_loaded_equal_and_saved_in_the_same_bytes(
    bias: bool, tmp_path: Path
) -> None:
    model = some_ranking_model(bias)
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, saved in zip(folders, (model, model), strict=True):
        folder.mkdir()
        saved.save(folder, USERS, MOVIES)
    loaded = RankingModel.load(folders[0])
    assert torch.equal(loaded.users, model.users)
    assert torch.equal(loaded.items, model.items)
    assert all(map(torch.equal, loaded.implicit, model.implicit))
    assert loaded.weight == model.weight
    assert loaded.rating_std == model.rating_std
    assert loaded.settings == model.settings
    assert loaded.rating.vocabularies == (USERS, MOVIES)
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again, USERS, MOVIES)
    files = [{path.name: path.read_bytes() for path in f.iterdir()} for f in (*folders, again)]
    assert files[0] == files[1] == files[2]
    assert {"ranking.json", "ranking.safetensors", "model.json"} < set(files[0])


def test_the_factor_model_in_it_is_loaded_by_itself_too(tmp_path: Path) -> None:
    model = some_ranking_model()
    model.save(tmp_path, USERS, MOVIES)
    alone = FactorModel.load(tmp_path)
    for name, table in model.rating.state_dict().items():
        assert torch.equal(alone.state_dict()[name], table)
    assert alone.predict([3, 500], [1, 900]).tolist() == pytest.approx(
        model.rating(torch.tensor([1, 4]), torch.tensor([1, 3])).tolist()
    )


def test_who_is_added_chooses_where_the_objective_is_flat() -> None:
    model, rated = some_ranking_model(), torch.tensor([1, 3])
    added = model.with_user(rated, torch.tensor([5.0, 2.0]))
    p = added.implicit.users[-1].double().requires_grad_()
    product = model.implicit.items.double() @ p
    hit = torch.zeros(N_ITEMS).index_fill(0, rated, 1)
    confidence, pull = model.settings.confidence, model.settings.regularization * 3**0.5
    loss = (1 + confidence) * hit * (1 - product).square() + (1 - hit) * product.square()
    total = loss.sum() + pull * (p - model.implicit.users[0]).square().sum()
    assert torch.autograd.grad(total, p)[0].abs().max() < 1e-4


def test_who_is_added_comes_last_and_nothing_else_changes() -> None:
    model = some_ranking_model()
    added = model.with_user(torch.tensor([1, 3]), torch.tensor([5.0, 2.0]))
    assert torch.equal(added.users[:-1], model.users)
    assert torch.equal(added.items, model.items)
    assert len(model.users) == N_USERS
    assert len(added.users) == added.rating.user_factors.num_embeddings == N_USERS + 1
    torch.testing.assert_close(
        added.users[-1, model.settings.n_factors :][: model.rating.user_factors.embedding_dim],
        model.weight * added.rating.user_factors.weight[-1],
    )
    assert added.with_user(torch.zeros(0).int(), torch.zeros(0)).users.isfinite().all()
