"""Encoded ratings on a device, and minibatches of them taken by indexing, without a DataLoader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from cf_pipeline.recommender.vocabulary import Vocabulary


RATINGS_AT_ONCE = 1 << 20
MOST_INT32 = (1 << 31) - 1


class EncodedRatings(NamedTuple):
    """Ratings on one device: int32 indices `users` and `items` (n,), float32 `ratings` (n,)."""

    users: Tensor
    items: Tensor
    ratings: Tensor

    @classmethod
    def of(
        cls,
        ratings: pd.DataFrame,
        users: Vocabulary,
        movies: Vocabulary,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Encode ratings (columns user, movie, rating); an id that is not known is `#na#`."""
        return cls(
            torch.tensor(users.encode(ratings["user"]), device=device),
            torch.tensor(movies.encode(ratings["movie"]), device=device),
            torch.tensor(ratings["rating"].to_numpy(np.float32), device=device),
        )

    @classmethod
    def load(cls, directory: Path, part: str, device: str | torch.device = "cpu") -> Self:
        """Return a part that `encoding.encode_split` wrote into `directory`.

        On the CPU the files are mapped: what is not looked at takes no memory. Nothing that is
        written into the tensors reaches the files. Pickled, such ratings are the names of their
        files, and elsewhere are mapped anew.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the files are damaged, or do not belong together.
        """
        columns: list[Tensor] = []
        for name, kind in zip(cls._fields, (np.int32, np.int32, np.float32), strict=True):
            path = directory / f"{part}_{name}.npy"
            column = np.lib.format.open_memmap(path, mode="c")  # which loads no pickle
            length = len(columns[0]) if columns else column.size
            if column.dtype != kind or column.shape != (length,):
                raise ValueError(
                    f"{path} should be {np.dtype(kind)} ({length},), but is {column.dtype} "
                    f"{column.shape}: materialize vocabularies again."
                )
            columns.append(torch.from_numpy(column).to(device))
        if torch.device(device).type != "cpu":
            return cls(*columns)
        mapped = _MappedRatings(*columns)
        mapped.source = directory.absolute(), part
        return cast("Self", mapped)

    @classmethod
    def concatenate(
        cls,
        batches: Iterable[Sequence[npt.NDArray[np.generic]]],
        device: str | torch.device = "cpu",
    ) -> Self:
        """Join batches as `encoding.encoded` yields them, of which there is one at least."""
        columns = zip(*batches, strict=True)
        return cls(*(torch.from_numpy(np.concatenate(column)).to(device) for column in columns))

    def take(self, rows: Tensor | slice) -> EncodedRatings:
        """Return the ratings at `rows`: indices, a mask or a slice."""
        return EncodedRatings(*(column[rows] for column in self))

    def pieces(self) -> Iterator[EncodedRatings]:
        """Yield all ratings, RATINGS_AT_ONCE at a time; one piece without any, if there is none."""
        for start in range(0, max(1, len(self.ratings)), RATINGS_AT_ONCE):
            yield self.take(slice(start, start + RATINGS_AT_ONCE))

    def carve(self, fraction: float, seed: int) -> tuple[EncodedRatings, EncodedRatings]:
        """Return the ratings without a random `fraction` of them, and those: one at least.

        For a `seed` they are the same on every device, so that what was not seen on one is not
        judged as unseen on another.

        Raises:
            ValueError: nothing would be left.
        """
        carved = self._carved(fraction, seed)
        return self._where(~carved), self._where(carved)

    def carve_into(
        self, directory: Path, fraction: float, seed: int
    ) -> tuple[EncodedRatings, EncodedRatings]:
        """Return what `carve` does, on the CPU from files that are written into `directory`.

        Raises:
            OSError: there is no room.
            ValueError: nothing would be left.
        """
        from cf_pipeline.recommender.encoding import write_encoded

        directory.mkdir(parents=True, exist_ok=True)
        carved = self._carved(fraction, seed)
        found = []
        for part, mask in (("rest", ~carved), ("carved", carved)):
            pieces = (
                [column.cpu().numpy() for column in some] for some in self._pieces_where(mask)
            )
            write_encoded(pieces, int(mask.sum()), directory, part)
            found.append(EncodedRatings.load(directory, part, self.ratings.device))
        return found[0], found[1]

    def _carved(self, fraction: float, seed: int) -> Tensor:
        """Return a mask (n,) of a random `fraction`, the same on every device."""
        n = len(self.ratings)
        n_carved = max(1, round(fraction * n))
        if n_carved >= n:
            raise ValueError(
                f"{fraction:g} of {n} ratings cannot be carved out and leave any: give more "
                "ratings, or a smaller fraction."
            )
        order = _permutation(n, torch.Generator().manual_seed(seed))
        carved = torch.zeros(n, dtype=torch.bool)
        carved[order[:n_carved]] = True
        return carved.to(self.ratings.device)

    def _where(self, mask: Tensor) -> EncodedRatings:
        """Return the ratings where the mask is true; by pieces, as indices take 8 bytes each."""
        return EncodedRatings(*map(torch.cat, zip(*self._pieces_where(mask), strict=True)))

    def _pieces_where(self, mask: Tensor) -> Iterator[EncodedRatings]:
        masks = mask.split(RATINGS_AT_ONCE)
        return (piece.take(here) for piece, here in zip(self.pieces(), masks, strict=True))


class _MappedRatings(EncodedRatings):
    """Ratings in files that are mapped into memory."""

    source: tuple[Path, str] | None = None  # of what `_replace` makes of them

    def __reduce__(self) -> tuple[Callable[..., EncodedRatings], tuple[object, ...]]:
        if self.source is None:
            return EncodedRatings, tuple(self)
        return EncodedRatings.load, self.source


class Minibatches:
    """Ratings in a new random order at every pass, `batch_size` at a time, the last batch shorter.

    Passes are reproducible for a `seed` on one device. A pass needs 4 bytes a rating for its order,
    and no copy of more than RATINGS_AT_ONCE ratings, or of one minibatch.
    """

    def __init__(self, ratings: EncodedRatings, batch_size: int, seed: int) -> None:
        self.ratings = ratings
        self.batch_size = batch_size
        self.seed = seed
        self._device = ratings.ratings.device
        self._generator = torch.Generator(self._device).manual_seed(seed)

    def __len__(self) -> int:
        """Return the number of minibatches of a pass."""
        return math.ceil(len(self.ratings.ratings) / self.batch_size)

    def __iter__(self) -> Iterator[EncodedRatings]:
        """Pass over all ratings, `batch_size` at a time."""
        return self._batches(self._generator)

    def one_batch(self) -> tuple[Tensor, Tensor]:
        """Return the first pass's first minibatch to look at: pairs (b, 2), and ratings (b,)."""
        generator = torch.Generator(self._device).manual_seed(self.seed)
        users, items, ratings = next(self._batches(generator))
        return torch.stack([users, items], dim=1), ratings

    def show_batch(
        self, users: Vocabulary, movies: Vocabulary, titles: pd.Series[str]
    ) -> pd.DataFrame:
        """Return `one_batch` decoded: columns user, movie, title, rating.

        `titles` is indexed by the movies' ids.
        """
        pairs, ratings = self.one_batch()
        user, movie = pairs.cpu().numpy().T
        ids = movies.decode(movie)
        return pd.DataFrame(
            {
                "user": users.decode(user),
                "movie": ids,
                "title": titles.reindex(ids).to_numpy(),
                "rating": ratings.cpu().numpy(),
            }
        )

    def _batches(self, generator: torch.Generator) -> Iterator[EncodedRatings]:
        order = _permutation(len(self.ratings.ratings), generator)
        # One gather for many minibatches is cheaper than one for each.
        for rows in order.split(max(1, RATINGS_AT_ONCE // self.batch_size) * self.batch_size):
            columns = (column.split(self.batch_size) for column in self.ratings.take(rows))
            yield from map(EncodedRatings, *columns)


def _permutation(n: int, generator: torch.Generator) -> Tensor:
    """Return 0 … n - 1 in random order, in 4 bytes each if they fit."""
    kind = torch.int32 if n <= MOST_INT32 else torch.int64
    return torch.randperm(n, generator=generator, device=generator.device, dtype=kind)
