"""The factor model: the lesson's numbers, its tables, raw ids, and its files."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from cf_pipeline.recommender.factor_model import FactorModel, ModelFileError, sigmoid_range
from cf_pipeline.recommender.vocabulary import NA, Vocabulary
from cf_pipeline_tests.recommender.bait import PICKLES, dumped
from cf_pipeline_tests.recommender.some_models import MOVIES, N_ITEMS, N_USERS, USERS, some_model

INDICES = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=8
)


def lesson_model(p: list[tuple[float, float]], q: list[tuple[float, float]]) -> FactorModel:
    """Return the lesson's model, whose users have the factors p and items q."""
    model = FactorModel(len(p), len(q), 2, y_range=(0, 5.1), bias=False)
    model.load_state_dict(
        {"user_factors.weight": torch.tensor(p), "item_factors.weight": torch.tensor(q)}
    )
    return model


def gradients(loss: Tensor, model: FactorModel) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: table.grad for name, table in model.named_parameters() if table.grad is not None}


@settings(deadline=None)  # torch's first calls take their time
@given(st.floats(-8, 8), st.floats(-10, 10), st.floats(0.5, 10))
def test_sigmoid_range_is_its_formula_and_stays_inside(x: float, low: float, width: float) -> None:
    y = sigmoid_range(torch.tensor(x, dtype=torch.float64), low, low + width).item()
    assert y == pytest.approx(low + width / (1 + math.exp(-x)), abs=1e-12)
    assert low < y < low + width


def test_one_rating_of_the_lesson() -> None:
    model = lesson_model([(-0.6954, 0.6502)], [(0.3967, 0.9922)])
    product = (model.user_factors.weight @ model.item_factors.weight.T).item()
    assert product == pytest.approx(0.3693, abs=1e-4)
    error = abs(3 - model(torch.tensor(0), torch.tensor(0)).item())
    assert error == pytest.approx(0.0155, abs=1e-4)


def test_one_step_of_the_lesson() -> None:
    p = [(-0.4655, -1.4049), (2.4640, -2.3262), (-0.9884, -0.9596), (-1.1680, -0.6322)]
    q = [(-1.3993, -0.9144), (0.5534, 0.4997), (0.4733, 0.0558), (0.4869, 1.9532)]
    model = lesson_model([*p, (-0.3300, 1.1854)], [*q, (1.1472, -0.7067)])
    predicted = model(torch.arange(5), torch.arange(5))
    assert predicted.tolist() == pytest.approx([4.4570, 2.8057, 1.8999, 0.7212, 1.1657], abs=2e-4)
    loss = (predicted - torch.tensor([3.0, 4, 3, 1, 1])).abs().sum()
    assert loss.item() == pytest.approx(4.1959, abs=2e-4)
    grads = gradients(loss, model)
    assert grads["item_factors.weight"].sum().item() == pytest.approx(2.9811, abs=2e-3)
    assert grads["user_factors.weight"].sum().item() == pytest.approx(-4.3750, abs=2e-3)


@pytest.mark.parametrize("bias", [True, False])
@settings(deadline=None)
@given(pairs=INDICES)
def test_a_look_up_is_a_product_with_one_hot_rows(bias: bool, pairs: list[tuple[int, int]]) -> None:
    model = some_model(bias)
    users, items = torch.tensor(pairs).T
    one_hot_users, one_hot_items = torch.eye(N_USERS)[users], torch.eye(N_ITEMS)[items]

    def product(users: Tensor, items: Tensor) -> Tensor:
        rows = (users @ model.user_factors.weight) * (items @ model.item_factors.weight)
        x = rows.sum(dim=1)
        if bias:
            x = x + (users @ model.user_bias.weight + items @ model.item_bias.weight)[:, 0]
        return sigmoid_range(x, 0.5, 5.25)

    looked_up, multiplied = model(users, items), product(one_hot_users, one_hot_items)
    torch.testing.assert_close(looked_up, multiplied)
    weights = torch.arange(1.0, len(pairs) + 1)  # so that a pair counts more than another
    of_look_up = gradients((looked_up * weights).sum(), model)
    of_product = gradients((multiplied * weights).sum(), model)
    assert set(of_look_up) == set(dict(model.named_parameters()))
    torch.testing.assert_close(of_look_up, of_product)


def test_predictions_have_the_shape_of_the_indices() -> None:
    model = some_model()
    users, items = torch.tensor([[0, 1], [4, 4], [2, 0]]), torch.tensor([[3, 1], [0, 3], [2, 0]])
    predicted = model(users, items)
    assert predicted.shape == (3, 2)
    assert predicted[1, 0].item() == pytest.approx(model(users[1, 0], items[1, 0]).item())
    assert model(users[0, 0], items[0, 0]).shape == ()


def test_the_tables_are_the_users_and_the_items() -> None:
    shapes = {name: tuple(table.weight.shape) for name, table in some_model().tables().items()}
    factors = {"user_factors": (5, 3), "item_factors": (4, 3)}
    assert shapes == factors | {"user_bias": (5, 1), "item_bias": (4, 1)}
    assert list(some_model(bias=False).tables()) == list(factors)


def test_ids_are_predicted_as_their_indices_and_unknown_ones_as_index_0(tmp_path: Path) -> None:
    model = some_model()
    model.save(tmp_path, USERS, MOVIES)
    predicted = model.predict([500, 3, 99, 7, 99], np.array([1, 900, 2, -5, -5]))
    assert predicted.dtype == np.float32
    expected = model(torch.tensor([4, 1, 0, 2, 0]), torch.tensor([1, 3, 2, 0, 0]))
    assert predicted.tolist() == expected.tolist()
    assert model.predict([99], [NA]).tolist() == expected[4:].tolist()


def test_users_and_movies_that_are_no_pairs_are_refused(tmp_path: Path) -> None:
    model = some_model()
    model.save(tmp_path, USERS, MOVIES)
    with pytest.raises(ValueError, match="1 users and 2 movies"):
        model.predict(USERS.ids[:1], MOVIES.ids[:2])


def test_ids_without_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="knows indices, not ids: save it with its vocabularies"):
        some_model().predict([3], [1])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("users", "movies"),
    [(USERS, MOVIES), (Vocabulary.of(["d", "a", "c", "b"]), Vocabulary.of(["", "é", "9"]))],
)
def test_a_saved_model_is_loaded_equal(
    tmp_path: Path, users: Vocabulary, movies: Vocabulary, bias: bool
) -> None:
    model = some_model(bias)
    model.save(tmp_path, users, movies)
    of_users, of_movies = users.ids.repeat(3), np.tile(movies.ids, 4)  # every pair
    loaded = FactorModel.load(tmp_path)
    predicted = loaded.predict(of_users, of_movies)
    assert np.array_equal(predicted, model.predict(of_users, of_movies))
    assert len(set(predicted)) == 12
    assert loaded.vocabularies == (users, movies)


def test_to_load_a_model_takes_no_compiler(tmp_path: Path) -> None:
    """torch imports it, for a second, to make what is random on the device meta."""
    some_model().save(tmp_path, USERS, MOVIES)
    script = (
        "import sys; from cf_pipeline.recommender.factor_model import FactorModel;"
        f"FactorModel.load({str(tmp_path)!r}); print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"


def test_a_table_is_torch_s_embedding() -> None:
    torch.manual_seed(0)
    expected = nn.Embedding(5, 3).weight
    torch.manual_seed(0)
    table = FactorModel(5, 4, 3).user_factors
    assert torch.equal(table.weight, expected)
    assert table.weight.requires_grad
    with torch.device("meta"):
        assert FactorModel(5, 4, 3).user_factors.weight.is_meta


def test_the_files_are_safetensors_json_and_parquet(tmp_path: Path) -> None:
    some_model().save(tmp_path, USERS, MOVIES)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json", ".parquet"}
    assert set(load_file(tmp_path / "model.safetensors")) == set(some_model().state_dict())
    assert json.loads((tmp_path / "model.json").read_bytes())["y_range"] == [0.5, 5.25]
    assert Vocabulary.load(tmp_path / "user_vocabulary.parquet") == USERS
    assert Vocabulary.load(tmp_path / "movie_vocabulary.parquet") == MOVIES


def test_vocabularies_of_another_size_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="4 rows for movies, but the movie vocabulary has 5"):
        some_model().save(tmp_path, USERS, USERS)
    assert list(tmp_path.iterdir()) == []


@PICKLES
def test_a_pickle_is_refused_and_never_run(
    tmp_path: Path, dump: Callable[..., None], load: Callable[[io.BytesIO], object]
) -> None:
    some_model().save(tmp_path, USERS, MOVIES)
    sprung = tmp_path / "sprung"
    pickled = dumped(dump, sprung)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(pickled.ljust(weights.stat().st_size, b"\0"))
    with pytest.raises(ModelFileError, match="cannot be read: Error while deserializing header"):
        FactorModel.load(tmp_path)
    assert not sprung.exists()
    load(io.BytesIO(pickled))
    assert sprung.exists()  # so the bait works
