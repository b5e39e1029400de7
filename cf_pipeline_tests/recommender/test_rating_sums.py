"""Sums over each row's ratings, against loops over the ratings in float64."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender.rating_sums import RatingSums

Numbers = npt.NDArray[np.float64]


class Case(NamedTuple):
    """Ratings of some of the rows, in any order, and what a regression on them takes."""

    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    values: Numbers
    others: Numbers  # other values of the same ratings
    table: Numbers  # (n_columns, width)
    offset: Numbers  # (n_columns,)
    weight: Numbers  # (n_columns,)
    fitted: Numbers  # (n_rows, width)

    def sums(self, values: Numbers) -> RatingSums:
        indices = torch.tensor(self.rows), torch.tensor(self.columns)
        sizes = len(self.fitted), len(self.table)
        return RatingSums(*indices, single(values), *sizes)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_rows, n_columns, width = (draw(st.integers(1, 6)) for _ in range(3))
    chosen = st.lists(st.integers(0, n_rows * n_columns - 1), unique=True)
    rows, columns = np.divmod(np.array(draw(chosen), dtype=np.int32), n_columns)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values, others = random.integers(1, 11, (2, len(rows))) / 2
    table, fitted = random.normal(size=(n_columns, width)), random.normal(size=(n_rows, width))
    offset, weight = random.normal(size=n_columns), random.gamma(5, size=n_columns)
    return Case(rows, columns, values, others, table, offset, weight, fitted)


def single(numbers: Numbers) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def looped_moments(case: Case, weight: Numbers) -> tuple[Numbers, Numbers]:
    n_rows, width = case.fitted.shape
    gram, linear = np.zeros((n_rows, width, width)), np.zeros((n_rows, width))
    for row, column, value in zip(case.rows, case.columns, case.values, strict=True):
        t = case.table[column]
        gram[row] += weight[column] * np.outer(t, t)
        linear[row] += weight[column] * (value - case.offset[column]) * t
    return gram, linear


def looped_squared_errors(case: Case) -> Numbers:
    errors = np.zeros(len(case.fitted))
    for row, column, value in zip(case.rows, case.columns, case.values, strict=True):
        errors[row] += (value - case.offset[column] - case.fitted[row] @ case.table[column]) ** 2
    return errors


@settings(deadline=None)  # torch's first calls take their time
@given(cases())
def test_moments_are_the_sums_over_each_rows_ratings(case: Case) -> None:
    sums, table, offset = case.sums(case.values), single(case.table), single(case.offset)
    assert sums.counts.tolist() == np.bincount(case.rows, minlength=len(case.fitted)).tolist()
    for found, weight in (
        (sums.moments(table, offset), np.ones_like(case.weight)),
        (sums.moments(table, offset, single(case.weight)), case.weight),
    ):
        for tensor, expected in zip(found, looped_moments(case, weight), strict=True):
            assert tensor.dtype == torch.float32
            np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(cases())
def test_squared_errors_are_the_sums_over_each_rows_ratings(case: Case) -> None:
    sums, offset = case.sums(case.values), single(case.offset)
    moments = sums.moments(single(case.table), offset)
    found = sums.squared_errors(moments, single(case.fitted), offset)
    np.testing.assert_allclose(found.numpy(), looped_squared_errors(case), rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(cases())
def test_ratings_that_are_met_exactly_have_errors_of_rounding_that_are_never_negative(
    case: Case,
) -> None:
    exact = case.offset[case.columns] + (case.fitted[case.rows] * case.table[case.columns]).sum(1)
    sums, offset = case.sums(exact), single(case.offset)
    errors = sums.squared_errors(
        sums.moments(single(case.table), offset), single(case.fitted), offset
    )
    assert 0 <= errors.min() <= errors.max() < 1e-3


@settings(deadline=None)
@given(cases())
def test_replaced_values_are_as_if_they_had_been_there_from_the_start(case: Case) -> None:
    replaced, new = case.sums(case.values), case.sums(case.others)
    replaced.replace(single(case.others))
    table, offset, weight = single(case.table), single(case.offset), single(case.weight)
    fitted = single(case.fitted)
    moments = (sums.moments(table, offset, weight) for sums in (replaced, new))
    for one, other in zip(*moments, strict=True):
        assert torch.equal(one, other)
    errors = (
        sums.squared_errors(sums.moments(table, offset), fitted, offset) for sums in (replaced, new)
    )
    assert torch.equal(*errors)
