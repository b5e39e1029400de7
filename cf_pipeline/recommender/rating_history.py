"""Who rated what: what is not listed for somebody again, and what explains their lists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cf_pipeline.recommender.top_items import Seen
from cf_pipeline.recommender.vocabulary import MOST_IDS, Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from cf_pipeline.recommender.minibatches import EncodedRatings
    from cf_pipeline.recommender.rating_scale import RatingScale

HISTORY = "history.safetensors"
RATERS = "rater_vocabulary.parquet"
TENSORS = ("raters", "items", "ratings", "in_training")


@dataclass(frozen=True)
class History:
    """Who rated what, in either part: index tensors `raters`, `items` (n,), and `ratings` (n,).

    `vocabulary` has the raters, some of whom the training part may not know; `in_training` (n,)
    tells which ratings it has. Those of the test part are 0: nothing needs its stars.
    """

    vocabulary: Vocabulary
    raters: Tensor
    items: Tensor
    ratings: Tensor
    in_training: Tensor

    @classmethod
    def of(
        cls,
        train: EncodedRatings,
        users: Vocabulary,
        movies: Vocabulary,
        test: pd.DataFrame | None = None,
    ) -> Self:
        """Take the training part, encoded by `users` and `movies`, and the test part, if any.

        `test` (columns user, movie) has raw ids; of movies not in `movies` nothing is taken.
        """
        vocabulary, raters, items = users, np.empty(0, np.int32), np.empty(0, np.int32)
        if test is not None:
            tested = Vocabulary.of(test["user"])
            vocabulary = Vocabulary.of(users.ids.union(tested.ids))
            raters, items = vocabulary.encode(test["user"]), movies.encode(test["movie"])
            raters, items = raters[items > 0], items[items > 0]
        rater_of = torch.tensor(np.append(np.int32(0), vocabulary.encode(users.ids)))
        stars = train.ratings.cpu()
        return cls(
            vocabulary,
            torch.cat([rater_of[train.users.cpu()], torch.tensor(raters)]),
            torch.cat([train.items.cpu(), torch.tensor(items)]),
            torch.cat([stars, torch.zeros(len(items))]),
            torch.cat([stars > -torch.inf, torch.zeros(len(items), dtype=torch.bool)]),
        )

    @cached_property
    def seen(self) -> Seen:
        """What each rater rated in either part, by the index in `vocabulary`."""
        return Seen.of(self.raters, self.items, len(self.vocabulary))

    def index_of(self, who: int | str) -> Tensor:
        """Return the index of a rater by the id, (1,); 0 of somebody else.

        Raises:
            TypeError: the id is of another kind than the raters'.
        """
        kind = int if self.vocabulary.ids.dtype == np.int64 else str
        if isinstance(who, bool) or not isinstance(who, (int, np.integer) if kind is int else str):
            raise TypeError(
                f"{who!r} is no id of a user: they are of type {kind.__name__}. For somebody new, "
                "give a dict of titles and ratings."
            )
        return torch.tensor(self.vocabulary.encode(pd.Index([who])))

    def save(self, directory: Path) -> None:
        """Write `history.safetensors` and `rater_vocabulary.parquet` into `directory`."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        save_file(tensors, directory / HISTORY)
        self.vocabulary.save(directory / RATERS)

    @classmethod
    def load(cls, directory: Path, n_items: int, scale: RatingScale) -> Self:
        """Return what `save` wrote into `directory`, of ratings of `n_items` items on the `scale`.

        Raises:
            OSError, TypeError, ValueError, SafetensorError: a file is missing or damaged, or they
            do not belong together.
        """
        vocabulary = Vocabulary.load(directory / RATERS, most=MOST_IDS)
        history = cls(vocabulary, **load_file(directory / HISTORY))
        _check(history, n_items, scale)
        return history


def _check(history: History, n_items: int, scale: RatingScale) -> None:
    """Raise ValueError unless the history's tensors fit together, and what they point to."""
    n, most = len(history.raters), len(history.vocabulary) * n_items
    if n > most:  # each of which is about to be looked at
        raise ValueError(f"{HISTORY} has {n:,} ratings of at most {most:,} pairs")
    for name, dtype, least, greatest in (
        ("raters", torch.int32, 0, len(history.vocabulary) - 1),
        ("items", torch.int32, 0, n_items - 1),
        ("ratings", torch.float32, min(0, scale.low), max(0, scale.high)),  # 0 of the test part
        ("in_training", torch.bool, 0, 1),
    ):
        tensor = getattr(history, name)
        if tensor.shape != (n,) or tensor.dtype != dtype:
            raise ValueError(
                f"{name} should be {dtype} ({n},), but is {tensor.dtype} {tuple(tensor.shape)}"
            )
        # Written so that NaN is beyond.
        if n and not (tensor.min().item() >= least and tensor.max().item() <= greatest):
            raise ValueError(f"{name} reaches beyond {least:g} … {greatest:g}")
