"""Lists of the best items, against a matrix of all scores."""

import math
from pathlib import Path
from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cf_pipeline.recommender import top_items as module
from cf_pipeline.recommender.top_items import CHUNK, Lists, Seen, top_items
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory

SIZES = st.one_of(
    st.integers(1, 400),
    st.builds(lambda chunks, off: chunks * CHUNK + off, st.integers(1, 3), st.integers(-1, 2)),
)
PAIRS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 29)), max_size=40)
MOST_MEMORY = 500 << 20  # bytes, most of them torch's; all scores would take 1600 MB


def some_tables(n_users: int, n_items: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return factors that are small whole numbers: scores are exact, and many are equal."""
    torch.manual_seed(seed)
    return torch.randint(-2, 3, (n_users, 3)).float(), torch.randint(-2, 3, (n_items, 3)).float()


def assert_best(found: Lists, scores: Tensor, k: int) -> None:
    """`scores` (n, n_items) are -inf where nothing may be listed."""
    filled = torch.cat([scores, torch.full((len(scores), k), -torch.inf)], dim=1)
    assert torch.equal(found.scores, filled.sort(descending=True).values[:, :k])
    short = found.scores == -torch.inf
    assert not found.items[short].any()
    assert torch.equal(scores.gather(1, found.items)[~short], found.scores[~short])
    listed = scores.new_zeros(scores.shape).scatter_add(1, found.items, (~short).float())
    assert (listed <= 1).all()


@settings(deadline=None)  # torch's first calls take their time
@given(
    n_users=st.integers(0, 7),
    n_items=SIZES,
    k=st.one_of(st.integers(1, 12), st.integers(1, 450)),
    share_seen=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    chunk=st.sampled_from([1, 7, CHUNK]),
    rows_at_once=st.integers(1, 8),
)
def test_lists_are_the_best_of_all_scores(
    n_users: int,
    n_items: int,
    k: int,
    share_seen: float,
    seed: int,
    chunk: int,
    rows_at_once: int,
) -> None:
    users, items = some_tables(n_users, n_items, seed)
    scores = users @ items.T
    pairs = (torch.rand(scores.shape) < share_seen).nonzero().repeat(2, 1)  # each comes twice
    rows, columns = pairs[torch.randperm(len(pairs))].int().T
    scores[rows, columns] = scores[:, 0] = -torch.inf
    width = math.ceil(n_items / chunk) * chunk
    with patch.multiple(module, CHUNK=chunk, SCORES_AT_ONCE=rows_at_once * width):
        found = top_items(users, items, Seen.of(rows, columns, n_users), k)
    assert found.items.shape == found.scores.shape == (n_users, k)
    assert_best(found, scores, k)


def test_who_has_seen_everything_is_shown_nothing() -> None:
    users, items = some_tables(2, 300, seed=0)
    seen = Seen.of(torch.ones(299).int(), torch.arange(1, 300).int(), 2)
    found = top_items(users, items, seen, 5)
    assert found.items[1].tolist() == [0] * 5
    assert found.scores[1].tolist() == [-torch.inf] * 5
    assert found.items[0].all()


def test_everything_stays_on_the_device_of_the_scores() -> None:
    users, items = some_tables(4, 300, seed=0)
    pairs = torch.tensor([3, 0, 3]).int(), torch.tensor([7, 8, 9]).int()
    expected = top_items(users, items, Seen.of(*pairs, 4).take(torch.tensor([3, 0, 1, 2])), 5)
    order = torch.tensor([3, 0, 1, 2])
    with torch.device("meta"):  # where a tensor that is made without a device would be
        found = top_items(users, items, Seen.of(*pairs, 4).take(order), 5)
        assert all(map(torch.equal, found, expected))


@given(st.integers(1, 8), PAIRS, st.lists(st.integers(0, 10**6), max_size=10))
def test_seen_keeps_each_rows_columns_and_takes_rows_in_any_order(
    n_rows: int, pairs: list[tuple[int, int]], picked: list[int]
) -> None:
    rows, columns = torch.tensor(pairs, dtype=torch.int32).view(-1, 2).T
    rows %= n_rows
    taken = [row % n_rows for row in picked]
    seen = Seen.of(rows, columns, n_rows)
    for part, of_rows in ((seen, range(n_rows)), (seen.take(torch.tensor(taken).long()), taken)):
        ends = part.starts.tolist()
        assert len(ends) == len(of_rows) + 1
        assert ends[-1] == len(part.columns)
        for place, row in enumerate(of_rows):
            found = part.columns[ends[place] : ends[place + 1]]
            assert found.tolist() == columns[rows == row].tolist()


def _list_for_many(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(2, 20_000, 2, generator=generator)
    rows = torch.arange(20_000).int()
    top_items(users, items, Seen.of(rows, rows, len(users)), k=10)


@MEASURED
def test_memory_does_not_grow_with_users_times_items(tmp_path: Path) -> None:
    assert peak_memory(_list_for_many, tmp_path) < MOST_MEMORY
