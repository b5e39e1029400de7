"""Sums over each row's ratings, against loops over the ratings in float64."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cf_pipeline.recommender import rating_sums
from cf_pipeline.recommender.moments import Moments
from cf_pipeline.recommender.rating_sums import RatingSums
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory

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

    def sums(
        self, values: Numbers | None, *, replaceable: bool = False, on_disk: bool = False
    ) -> RatingSums:
        indices = torch.tensor(self.rows), torch.tensor(self.columns)
        sizes = len(self.fitted), len(self.table)
        known = None if values is None else single(values)
        return RatingSums(*indices, known, *sizes, replaceable=replaceable, on_disk=on_disk)


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


def moments(sums: RatingSums, *of: torch.Tensor) -> Moments:
    """Return the moments of all rows, which come one after the other."""
    rows, parts = zip(*sums.moments(*of), strict=True)
    assert [part.start for part in rows] == [0, *(part.stop for part in rows[:-1])]
    assert rows[-1].stop == len(sums.counts)
    return Moments(*map(torch.cat, zip(*parts, strict=True)))


def looped_moments(case: Case, weight: Numbers) -> tuple[Numbers, Numbers]:
    n_rows, width = case.fitted.shape
    gram, linear = np.zeros((n_rows, width, width)), np.zeros((n_rows, width))
    for row, column, value in zip(case.rows, case.columns, case.values, strict=True):
        t = case.table[column]
        gram[row] += weight[column] * np.outer(t, t)
        linear[row] += weight[column] * (value - case.offset[column]) * t
    return gram, linear


def squared_errors(sums: RatingSums, case: Case, offset: torch.Tensor) -> torch.Tensor:
    residuals = moments(sums, single(case.table), offset).residuals(single(case.fitted))
    return sums.squared_errors(residuals.explained, offset)


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
        (moments(sums, table, offset), np.ones_like(case.weight)),
        (moments(sums, table, offset, single(case.weight)), case.weight),
    ):
        for tensor, expected in zip(found, looped_moments(case, weight), strict=True):
            assert tensor.dtype == torch.float32
            np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(cases())
def test_squared_errors_are_the_sums_over_each_rows_ratings(case: Case) -> None:
    sums, offset = case.sums(case.values), single(case.offset)
    found = squared_errors(sums, case, offset)
    np.testing.assert_allclose(found.numpy(), looped_squared_errors(case), rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(cases())
def test_ratings_that_are_met_exactly_have_errors_of_rounding_that_are_never_negative(
    case: Case,
) -> None:
    exact = case.offset[case.columns] + (case.fitted[case.rows] * case.table[case.columns]).sum(1)
    sums, offset = case.sums(exact), single(case.offset)
    errors = squared_errors(sums, case, offset)
    assert 0 <= errors.min() <= errors.max() < 1e-3


@settings(deadline=None)
@given(cases())
def test_replaced_values_are_as_if_they_had_been_there_from_the_start(case: Case) -> None:
    replaced, new = case.sums(case.values, replaceable=True), case.sums(case.others)
    replaced.replace(single(case.others))
    assert_equal(replaced, new, case)


@settings(deadline=None)
@given(cases())
def test_sums_on_disk_are_those_in_memory_bit_for_bit(case: Case) -> None:
    in_memory = case.sums(case.values)
    assert_equal(case.sums(case.values, on_disk=True), in_memory, case)
    replaced = case.sums(case.others, replaceable=True, on_disk=True)
    replaced.replace(single(case.values))
    assert_equal(replaced, in_memory, case)


@settings(deadline=None)
@given(cases())
def test_without_values_each_is_1(case: Case) -> None:
    assert_equal(case.sums(None), case.sums(np.ones_like(case.values)), case)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), columns=st.integers(1, 3), at_once=st.integers(1, 9))
def test_it_does_not_matter_how_much_is_done_at_once(
    case: Case, columns: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for name in ("COLUMNS_OF_A_BLOCK", "MOST_COLUMNS_OF_A_BLOCK"):
            patch.setattr(rating_sums, name, columns)
        in_blocks = case.sums(case.values, replaceable=True)
        moments_of_all = moments(in_blocks, single(case.table), single(case.offset))
        for name in ("SORTED_AT_ONCE", "RATINGS_AT_ONCE", "SUMS_AT_ONCE", "GRAMS_AT_ONCE"):
            patch.setattr(rating_sums, name, at_once)
        little = case.sums(case.others, replaceable=True)
        little.replace(single(case.values))
        found = moments(little, single(case.table), single(case.offset))
        for one, other in zip(found, moments_of_all, strict=True):
            torch.testing.assert_close(one, other)
        assert_equal(little, in_blocks, case)
    looped = looped_moments(case, np.ones_like(case.weight))
    for tensor, expected in zip(moments_of_all, looped, strict=True):
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(cases())
def test_a_total_is_the_sum_over_each_rows_ratings_of_what_their_columns_have(case: Case) -> None:
    expected = np.zeros_like(case.fitted)
    np.add.at(expected, case.rows, case.table[case.columns])
    for sums in (case.sums(case.values), case.sums(None, on_disk=True)):
        found = sums.total(single(case.table)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


MANY = 300_000


def total_few(_: Path) -> None:
    """Take the sums of few ratings of many rows and columns: one of each row."""
    rows = torch.arange(MANY, dtype=torch.int32)
    total = RatingSums(rows, rows.flip(0), None, MANY, MANY).total(torch.ones(MANY, 1))
    assert (total == 1).all()


@MEASURED
def test_few_ratings_of_many_rows_and_columns_take_little_room(tmp_path: Path) -> None:
    assert peak_memory(total_few, tmp_path) < 640 << 20  # blocks of 2048 columns took 1250 MiB


def test_values_that_stay_cannot_be_replaced() -> None:
    none = torch.zeros(0, dtype=torch.int32)
    with pytest.raises(ValueError, match="replaceable=True"):
        RatingSums(none, none, torch.zeros(0), 1, 1).replace(torch.zeros(0))


def assert_equal(one: RatingSums, other: RatingSums, case: Case) -> None:
    """Hold both to the same sums, bit for bit."""
    table, offset, weight = single(case.table), single(case.offset), single(case.weight)
    for found, expected in zip(
        moments(one, table, offset, weight), moments(other, table, offset, weight), strict=True
    ):
        assert torch.equal(found, expected)
    assert torch.equal(squared_errors(one, case, offset), squared_errors(other, case, offset))
