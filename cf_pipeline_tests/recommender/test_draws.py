"""Draws against their distributions: moments, distances of distribution functions, both tails."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender import draws

INF = math.inf
N = 20_000
ENDS = [
    (-INF, INF),
    (-INF, 0.0),
    (0.0, INF),
    (-INF, -9.0),
    (9.0, INF),
    (-INF, 2.0),
    (-2.0, INF),
    (-1.0, 2.0),
    (-0.2, 6.0),
    (1.5, 1.6),
    (-5.1, -5.0),
    (7.0, 7.5),
    (-11.0, 0.3),
    (-11.0, -10.0),
    (10.0, 11.0),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact_probability(low: float, high: float) -> float:
    """Return the probability between the ends, from the tail in which neither is near 1."""
    if low > 0:
        low, high = -high, -low
    return 0.5 * (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2)))


def exact_mean(low: float, high: float) -> float:
    x = np.linspace(max(low, -14), min(high, 14), 200_001)
    closest = min(abs(low), abs(high)) if low * high > 0 else 0  # keeps the density off 0
    density = np.exp((closest**2 - x**2) / 2)
    return float((x * density).sum() / density.sum())


def distance(drawn: Tensor, below: Callable[[float], float]) -> float:
    """Return Kolmogorov and Smirnov's distance of draws from a distribution function, times √n.

    It is above 2.2 once in 8000 times.
    """
    ordered = np.sort(drawn.double().numpy())
    places = np.linspace(0, len(ordered) - 1, 500).astype(int)
    exact = np.array([below(x) for x in ordered[places]])
    shares = (places + 0.5) / len(ordered)
    return float(np.abs(exact - shares).max()) * math.sqrt(len(ordered))


def assert_close_to_moments(
    drawn: Tensor, mean: npt.NDArray[np.floating], variance: npt.NDArray[np.floating]
) -> None:
    """Hold means to five standard errors and variances to a tenth; draws are along axis 0."""
    numbers = drawn.double().numpy()
    assert (np.abs(numbers.mean(axis=0) - mean) < 5 * np.sqrt(variance / len(drawn))).all()
    np.testing.assert_allclose(numbers.var(axis=0), variance, rtol=0.1)


CPU = torch.device("cpu")
PARTS = st.integers(0, 1 << 40)
KEYS = st.tuples(PARTS, st.integers(0, 2), PARTS, st.integers(0, 1), PARTS)  # as fits have them


def first_of(key: tuple[int, ...]) -> list[float]:
    return draws.normal(draws.stream(CPU, *key), 4).tolist()


@given(KEYS, KEYS)
def test_a_stream_follows_its_key_and_nothing_else(key: tuple[int, ...], other: tuple[int, ...]):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = first_of(key)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert first_of(key) == one
    assert (first_of(other) == one) == (other == key)


def test_streams_are_told_apart_by_each_number_of_their_keys_and_by_their_order() -> None:
    keys = list(itertools.product(range(3), repeat=5))
    drawn = torch.tensor([first_of(key) for key in keys])
    assert len(drawn.unique(dim=0)) == len(keys)
    assert distance(drawn.flatten(), lambda x: exact_probability(-INF, x)) < 2.2
    assert drawn.T.corrcoef().fill_diagonal_(0).abs().max() < 4 / math.sqrt(len(keys))


def test_normals_have_their_shape_and_distribution() -> None:
    drawn = draws.normal(seeded(), 100, 200)
    assert drawn.shape == (100, 200)
    assert distance(drawn.flatten(), lambda x: exact_probability(-INF, x)) < 2.2


def test_gammas_have_their_mean_and_variance() -> None:
    shape, rate = torch.tensor([0.5, 1, 5, 300]), torch.tensor([2, 0.1, 5, 40])
    drawn = draws.gamma(seeded(), shape.expand(N, 4), rate)
    assert_close_to_moments(drawn, (shape / rate).numpy(), (shape / rate**2).numpy())
    assert distance(drawn[:, 1], lambda x: 1 - math.exp(-0.1 * x)) < 2.2


@pytest.mark.parametrize("degrees", [3, 10])
def test_wisharts_have_their_mean_and_variance(degrees: int) -> None:
    inverse_scale = torch.tensor([[2, 0.5, 0], [0.5, 1, -0.3], [0, -0.3, 0.6]])
    generator = seeded()
    drawn = torch.stack([draws.wishart(generator, inverse_scale, degrees) for _ in range(6000)])
    torch.testing.assert_close(drawn, drawn.mT)
    assert (torch.linalg.eigvalsh(drawn.double()) > 0).all()
    scale = np.linalg.inv(inverse_scale.double().numpy())
    diagonal = np.diag(scale)
    variance = degrees * (scale**2 + np.outer(diagonal, diagonal))
    assert_close_to_moments(drawn, degrees * scale, variance)


@pytest.mark.parametrize(("low", "high"), ENDS)
def test_truncated_normals_have_their_distribution(low: float, high: float) -> None:
    ends = torch.full((N,), low), torch.full((N,), high)
    drawn = draws.truncated_normal(seeded(), *ends)
    assert (drawn >= ends[0]).all()
    assert (drawn <= ends[1]).all()
    total = exact_probability(low, high)
    assert distance(drawn, lambda x: exact_probability(low, x) / total) < 2.2
    mean, error = exact_mean(low, high), drawn.std().item() / math.sqrt(N)
    assert drawn.mean().item() == pytest.approx(mean, abs=5 * error)
    assert draws.truncated_normal_mean(*(end[0] for end in ends)).item() == pytest.approx(
        mean, abs=2e-3
    )


@settings(deadline=None)  # torch's first calls take their time
@given(st.floats(-30, 30, width=32), st.floats(0, 60, width=32), st.sampled_from([0, 1, 2]))
def test_truncated_normals_and_their_mean_lie_between_any_ends(
    low: float, span: float, open_end: int
) -> None:
    ends = [torch.full((50,), low), torch.full((50,), low) + span]
    if open_end:
        ends[open_end - 1] = torch.full((50,), (-INF, INF)[open_end - 1])
    for value in (draws.truncated_normal(seeded(), *ends), draws.truncated_normal_mean(*ends)):
        assert value.isfinite().all()
        assert ((ends[0] <= value) & (value <= ends[1])).all()


@settings(deadline=None)
@given(st.floats(-11, 11, width=32), st.floats(0.0625, 20, width=32) | st.just(INF))
def test_the_normal_probability_has_its_digits_in_both_tails(low: float, span: float) -> None:
    ends = torch.tensor(low), torch.tensor(low) + span
    exact = exact_probability(*(end.item() for end in ends))
    assert draws.normal_probability(*ends).item() == pytest.approx(exact, rel=1e-3)
    mirrored = draws.normal_probability(-ends[1], -ends[0]).item()
    assert mirrored == pytest.approx(exact, rel=1e-3)


def test_the_normal_probability_is_never_zero_so_that_it_has_a_logarithm() -> None:
    ends = torch.tensor([-INF, 40.0, 3.0, 3.0]), torch.tensor([-40.0, INF, 3.0, 2.0])
    assert (draws.normal_probability(*ends).log() > -INF).all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: draws.normal(generator, 4),
        lambda generator: draws.gamma(generator, torch.ones(4), torch.ones(4)),
        lambda generator: draws.wishart(generator, torch.eye(2), 2),
        lambda generator: draws.truncated_normal(generator, torch.zeros(4), torch.ones(4)),
    ],
)
def test_draws_follow_their_generator_and_no_other(
    draw: Callable[[torch.Generator], Tensor],
) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = draw(seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert torch.equal(draw(seeded(1)), one)
    assert not torch.equal(draw(seeded(2)), one)
    generator = seeded(1)
    draw(generator)
    assert not torch.equal(draw(generator), one)
