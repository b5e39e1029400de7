"""The best items for each of many users, of whom a block's scores alone are in memory at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor

SCORES_AT_ONCE = 1 << 23
CHUNK = 128  # items whose greatest score is looked at before their own


class Lists(NamedTuple):
    """The best items of n rows, best first: indices `items` (n, k) and their `scores` (n, k).

    Where a row has fewer items to list, the rest are item 0, the unknown, with score -inf.
    """

    items: Tensor
    scores: Tensor


class Seen(NamedTuple):
    """What each of n rows is not to be shown: row r has `columns[starts[r] : starts[r + 1]]`."""

    starts: Tensor
    columns: Tensor

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, n_rows: int) -> Seen:
        """Take pairs of index tensors (n_pairs,), (n_pairs,) in any order."""
        order = torch.argsort(rows, stable=True)
        counts = torch.bincount(rows, minlength=n_rows)
        return cls(pad(counts.cumsum(0), (1, 0)), columns[order])

    def take(self, rows: Tensor) -> Seen:
        """Return what the rows at the indices `rows` (n,) are not to be shown."""
        starts, places = self.places(rows)
        return type(self)(starts, self.columns[places])

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return where each of `rows` (n,) would start, (n + 1,), and the places of its columns."""
        counts = self.starts.diff()[rows]
        starts = pad(counts.cumsum(0), (1, 0))
        shift = torch.repeat_interleave(self.starts[rows] - starts[:-1], counts)
        return starts, torch.arange(len(shift), device=rows.device) + shift


@torch.no_grad()
def top_items(users: Tensor, items: Tensor, seen: Seen, k: int) -> Lists:
    """Return the k items of the greatest products `users` (n, d) · `items` (n_items, d).

    Item 0, the unknown, and what a row has seen are left out. The k best of all are among the k
    chunks of items whose greatest scores are greatest, so most scores are looked at only once.
    """
    n_items = len(items)
    chunks = math.ceil(n_items / CHUNK)
    # Chunk c has the items c · CHUNK and on; what fills up the last is never listed.
    table = pad(items, (0, 0, 0, chunks * CHUNK - n_items)).T
    size = max(1, SCORES_AT_ONCE // table.shape[1])
    # One for all blocks: new ones would fragment the memory until it is many times as much.
    scores = users.new_empty(min(size, len(users)), table.shape[1])
    blocks = [
        _top(torch.mm(block, table, out=scores[: len(block)]), n_items, seen, first * size, k)
        for first, block in enumerate(users.split(size))
    ]
    return Lists(*(torch.cat(column) for column in zip(*blocks, strict=True)))


def _top(scores: Tensor, n_items: int, seen: Seen, first: int, k: int) -> Lists:
    """Return the lists of the rows from `first` on, whose `scores` are given and are changed."""
    n, n_chunks = len(scores), scores.shape[1] // CHUNK
    starts = seen.starts[first : first + n + 1]
    rows = torch.repeat_interleave(torch.arange(n, device=scores.device), starts.diff())
    scores[rows, seen.columns[int(starts[0]) : int(starts[-1])]] = -torch.inf
    scores[:, 0] = scores[:, n_items:] = -torch.inf
    chunks = scores.view(-1, CHUNK)
    greatest = chunks.amax(dim=1).view(n, n_chunks)
    chosen = greatest.topk(min(k, n_chunks), sorted=False).indices
    all_before = torch.arange(n, device=scores.device).unsqueeze(1) * n_chunks
    candidates = chunks.index_select(0, (chosen + all_before).flatten())
    best, place = candidates.view(n, CHUNK * chosen.shape[1]).topk(min(k, n_items))
    index = chosen.gather(1, place // CHUNK) * CHUNK + place % CHUNK
    missing = 0, k - best.shape[1]
    return Lists(
        pad(index.masked_fill(best == -torch.inf, 0), missing), pad(best, missing, value=-torch.inf)
    )
