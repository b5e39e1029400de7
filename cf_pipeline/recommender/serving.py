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
from torch import Tensor
from torch.nn.functional import normalize

from cf_pipeline.recommender.bounded import read_at_most
from cf_pipeline.recommender.explanations import Rated, reasons, sentences
from cf_pipeline.recommender.factor_model import ModelFileError
from cf_pipeline.recommender.ranking_model import REMEDY, RankingModel
from cf_pipeline.recommender.rating_history import History
from cf_pipeline.recommender.rating_scale import RatingScale
from cf_pipeline.recommender.top_items import Seen, top_items
from cf_pipeline.recommender.vocabulary import Vocabulary

TITLES = "titles.json"
BYTES_OF_A_TITLE = 6000  # at most: as many characters as the reader takes, each escaped
LENGTH = 20
OTHERWISE = "Watched by people who are alike, or by everybody"
YEAR = re.compile(r" \(\d{4}\)$")
LIKE_TITLES = 3  # that an error names


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
            seen = self.history.seen.take(self.history.index_of(who))
            model, row = self.model, int(self.users.encode(pd.Index([who]))[0])
            rated = self.rated.take(torch.tensor([row]))
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
        self.history.save(directory)

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
            history = History.load(folder, n_items, model.rating.rating_scale)
        except (OSError, TypeError, ValueError, SafetensorError) as error:
            raise ModelFileError(
                f"The recommender in {folder} cannot be read: {str(error).rstrip('.')}. {REMEDY}"
            ) from error
        return cls(model, titles, history)
