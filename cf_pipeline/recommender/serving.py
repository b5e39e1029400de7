"""Recommendations for people: by the id of a user, by a few ratings, or by what a movie is like."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from cf_pipeline.recommender.bounded import read_at_most
from cf_pipeline.recommender.explanations import Rated, reasons, sentences
from cf_pipeline.recommender.factor_model import ModelFileError
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_model import REMEDY, RankingModel
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.top_items import Seen, top_items
from cf_pipeline.recommender.vocabulary import MOST_IDS, Vocabulary

TITLES = "titles.json"
HISTORY = "history.safetensors"
RATERS = "rater_vocabulary.parquet"
BYTES_OF_A_TITLE = 6000  # at most: as many characters as the reader takes, each escaped
LENGTH = 20
OTHERWISE = "Watched by people who are alike, or by everybody"
YEAR = re.compile(r" \(\d{4}\)$")
LIKE_TITLES = 3  # that an error names


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


class Listing(NamedTuple):
    """Lists of k items (n, k) for n users, their `scores` (n, k), and why, in words (n · k,)."""

    items: Tensor
    scores: Tensor
    reasons: pa.StringArray


@dataclass(frozen=True)
class Recommender:
    """A ranking model with all it takes to show its lists to people, on the CPU.

    `titles` (n_items,) are the movies' by index. What somebody rated in either part is not listed
    for them. The reasons are ratings of the training part, the only ones that the model knows.
    """

    model: RankingModel
    titles: Sequence[str]
    history: History

    @property
    def users(self) -> Vocabulary:
        """The users of the training part."""
        return self._vocabularies[0]

    @property
    def movies(self) -> Vocabulary:
        """The movies of the training part, which alone are listed."""
        return self._vocabularies[1]

    def recommend(self, who: int | str | Mapping[str, float], n: int = LENGTH) -> pd.DataFrame:
        """Return the n best unseen movies for `who`: the id of a user, or a dict {title: rating}.

        The columns are rank, movie, title, score, predicted_rating and reason. An id without
        training ratings gets what everybody watches. A title may lack its year.

        Raises:
            TypeError: the id is of another kind than the users', or a title is no string.
            ValueError: a title is not known, a rating is not on the scale, or n is less than 1.
        """
        if n < 1:
            raise ValueError(f"{n} movies cannot be listed: give 1 or more.")
        if isinstance(who, Mapping):
            items, ratings = self._encode(who)
            model, row = self.model.with_user(items, ratings), len(self.model.implicit.users)
            rated = Rated.of(torch.zeros_like(items), items, ratings, 1)
            seen = self._of_the_titles(items)
        else:
            _check_kind(who, self.history.vocabulary)
            model, row = self.model, int(self.users.encode(pd.Index([who]))[0])
            rated = self.rated.take(torch.tensor([row]))
            rater = self.history.vocabulary.encode(pd.Index([who]))
            seen = self.seen.take(torch.tensor(rater))
        listing = self.listing(model.users[row : row + 1], seen, rated, n)
        items = listing.items[0][listing.items[0] > 0]
        predicted = model.rating(torch.full_like(items, row), items).detach().clamp(*self._scale)
        return pd.DataFrame(
            {
                "rank": range(1, len(items) + 1),
                "movie": self.movies.decode(items.numpy()),
                "title": [self.titles[item] for item in items.tolist()],
                "score": listing.scores[0][: len(items)].numpy(),
                "predicted_rating": predicted.numpy(),
                "reason": listing.reasons.to_pylist()[: len(items)],
            }
        )

    def similar(self, title: str, n: int = LENGTH) -> pd.DataFrame:
        """Return the n movies that are most like `title`: liked and disliked by the same people.

        The columns are rank, movie, title, cosine (of the factors, as in `neighbours`) and ratings,
        the number of training ratings: of a movie with few, little is known. A title may lack its
        year.

        Raises:
            ValueError: the title is not known.
        """
        items, cosines = self.neighbours(torch.tensor([self.index_of(title)]), n)
        there = items[0][items[0] > 0]
        return pd.DataFrame(
            {
                "rank": range(1, len(there) + 1),
                "movie": self.movies.decode(there.numpy()),
                "title": [self.titles[item] for item in there.tolist()],
                "cosine": cosines[0][: len(there)].numpy(),
                "ratings": self.counts[there].numpy(),
            }
        )

    def listing(self, users: Tensor, seen: Seen, rated: Rated, k: int) -> Listing:
        """Return lists for `users` (n, width), rows of the model's, or made like them.

        They have `seen` what is not to be listed, and `rated` what the model knows of them.
        """
        items, scores = top_items(users, self.model.items, seen, k)
        found = reasons(self.model, rated, items)
        words = sentences(found, rated, self.titles, self._scale)
        return Listing(items, scores, pc.fill_null(words, OTHERWISE))

    def neighbours(self, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k items (n, k) of the greatest cosines (n, k) to `items` (n,), themselves not.

        The factors are the factor model's, which tell alike from alike better than the implicit
        ones: these find what was popular at the same time. Of events, only these say anything.
        Where there are fewer, the rest are item 0, with cosine -inf.
        """
        itself = Seen.of(torch.arange(len(items)), items, len(items))
        found = top_items(self._directions[items], self._directions, itself, k)
        return found.items, found.scores

    def index_of(self, title: str) -> int:
        """Return the index of a movie by its title, with or without its year, in any case.

        Of several movies, it is the one with the most training ratings.

        Raises:
            ValueError: there is no such title.
        """
        if not isinstance(title, str):
            raise TypeError(f"{title!r} is no title: give movies by their titles, as strings.")
        found = self._by_title.get(title.casefold())
        if found is None:
            like = difflib.get_close_matches(title.casefold(), self._by_title, LIKE_TITLES)
            titles = dict.fromkeys(self.titles[self._by_title[name]] for name in like)
            raise ValueError(
                f"No movie of the training part is called {title!r}: "
                f"{'is it ' + ' or '.join(map(repr, titles)) + '?' if titles else 'see titles.'}"
            )
        return found

    @cached_property
    def seen(self) -> Seen:
        """What each rater rated in either part, by the index in the history's vocabulary."""
        history = self.history
        return Seen.of(history.raters, history.items, len(history.vocabulary))

    @cached_property
    def rated(self) -> Rated:
        """What each user rated in the training part, by the index in `users`."""
        history, train = self.history, self.history.in_training
        of_raters = self.users.encode(history.vocabulary.ids)
        row_of_rater = torch.tensor(np.append(np.int32(0), of_raters))
        rows = row_of_rater[history.raters[train]]
        return Rated.of(rows, history.items[train], history.ratings[train], len(self.users))

    @cached_property
    def counts(self) -> Tensor:
        """The number of training ratings of each movie, (n_items,)."""
        return torch.bincount(self.rated.items.columns, minlength=len(self.movies))

    @cached_property
    def _directions(self) -> Tensor:
        if self._scale.is_constant:  # such as events: who watched what is all there is to learn
            return normalize(self.model.implicit.items)
        return normalize(self.model.rating.item_factors.weight.detach())

    @cached_property
    def _by_title(self) -> dict[str, int]:
        """The index of each title, and of each title without its year, in lower case."""
        by_count = self.counts.argsort(stable=True).tolist()  # the most rated last
        titles = [(self.titles[index].casefold(), index) for index in by_count if index]
        return {YEAR.sub("", title): index for title, index in titles} | dict(titles)

    @property
    def _scale(self) -> RatingScale:
        return self.model.rating.rating_scale

    @property
    def _vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        if self.model.rating.vocabularies is None:
            raise ValueError("This model knows indices, not ids: save it with its vocabularies.")
        return self.model.rating.vocabularies

    def _encode(self, ratings: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        low, high = self._scale
        for title, rating in ratings.items():
            # As float32, which the ends of the scale are of: 9.9 is more than float32's 9.9.
            if not low <= torch.tensor(rating, dtype=torch.float32).item() <= high:
                raise ValueError(f"{title!r} is rated {rating}, but {low:g} to {high:g} are given.")
        # Two titles may mean the same movie: the last counts.
        found = {self.index_of(title): float(rating) for title, rating in ratings.items()}
        return torch.tensor(list(found), dtype=torch.long), torch.tensor(list(found.values()))

    def _of_the_titles(self, items: Tensor) -> Seen:
        """Return the movies that have the titles of `items`: some movies are there twice."""
        titles = {self.titles[item] for item in items.tolist()}
        found = [item for item, title in enumerate(self.titles) if title in titles]
        columns = torch.tensor(found, dtype=torch.long)
        return Seen.of(torch.zeros_like(columns), columns, 1)

    def save(self, directory: Path) -> None:
        """Write all it takes to recommend, the ranking model and the factor model included."""
        self.model.save(directory, *self._vocabularies)
        titles = TypeAdapter(list[str]).dump_json(list(self.titles))
        (directory / TITLES).write_bytes(titles)
        history = self.history
        tensors = {name: value for name, value in vars(history).items() if name != "vocabulary"}
        save_file(tensors, directory / HISTORY)
        history.vocabulary.save(directory / RATERS)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Return the recommender that `save` wrote into `directory`.

        Raises:
            ModelFileError: a file is missing or damaged, or they do not belong together.
        """
        folder = Path(directory)
        model = RankingModel.load(folder)
        n_items = len(model.implicit.items)
        try:
            content = read_at_most(folder / TITLES, BYTES_OF_A_TITLE * n_items)
            titles = TypeAdapter(list[str]).validate_json(content)
            if len(titles) != n_items:
                raise ValueError(f"{TITLES} has {len(titles)} titles of {n_items} movies")
            vocabulary = Vocabulary.load(folder / RATERS, most=MOST_IDS)
            history = History(vocabulary, **load_file(folder / HISTORY))
            _check(history, n_items, model.rating.rating_scale)
        except (OSError, TypeError, ValueError, SafetensorError) as error:
            raise ModelFileError(
                f"The recommender in {folder} cannot be read: {str(error).rstrip('.')}. {REMEDY}"
            ) from error
        return cls(model, titles, history)


def _check_kind(who: object, raters: Vocabulary) -> None:
    """Raise TypeError unless `who` could be the id of one of the raters."""
    kind = int if raters.ids.dtype == np.int64 else str
    if isinstance(who, bool) or not isinstance(who, (int, np.integer) if kind is int else str):
        raise TypeError(
            f"{who!r} is no id of a user: they are of type {kind.__name__}. For somebody new, give "
            "a dict of titles and ratings."
        )


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
