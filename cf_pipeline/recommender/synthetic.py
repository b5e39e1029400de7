"""Ratings of any number whose truth is known: drawn with a seed, a block of users at a time.

How much users rate is log-normal, how often movies are chosen follows Zipf's law, and no pair comes
twice. Movies are of kinds, and every user has a favourite one: half of the time the movie of that
kind is chosen which is about as popular. Ratings are those of a low-rank model, with noise:

    r_ui = clip(round(c_ui + ε), 1, 5)    c_ui = μ + b_u + b_i + p_u·q_i    ε ~ N(0, σ²)

With Φ the normal distribution function, P(r > k | c) = Φ((c - k - ½) / σ) for k = 1 … 4, so that

    E[r | c] = 1 + Σ P(r > k | c)    E[r² | c] = 1 + Σ (2k + 1) P(r > k | c)

and nobody who predicts from anything but the ratings themselves has an RMSE below the noise floor
√ mean Var[r | c], but for chance. The constants are such that about 3.5 is the mean, and 1.1 the
standard deviation, of the ratings, as in MovieLens, and the floor about .8.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cf_pipeline.recommender.movielens import RATINGS_SCHEMA
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ids = npt.NDArray[np.integer]
    Numbers = npt.NDArray[np.floating]

LEVELS = range(1, 6)
MEAN, NOISE_STD = 3.65, 0.8
FACTORS, FACTOR_STD = 8, 0.42
USER_BIAS_STD, MOVIE_BIAS_STD = 0.4, 0.4
LIKED_WITH_POPULARITY = 0.4  # correlation of a movie's bias with the logarithm of its popularity
ACTIVITY_STD = 1.0  # of the logarithm of how much a user rates
ZIPF_EXPONENT = 0.8
KINDS, TO_TASTE = 8, 0.5  # of movies, and the share of choices that go by the favourite
FIRST_SECOND, YEAR = 820_454_400, 31_557_600  # 1996, and its length in seconds
YEARS = 20
YEARS_OF_A_USER = 1.0  # on average, from the first rating to the last

ROWS_OF_A_BLOCK = 1 << 18
BLOCKS_OF_A_PIECE = 64
RACED = 1 / 16  # share of the movies from which on drawing until none is missing takes long
TIME_BITS = 30  # what is left of 64 by a user and a movie of a block
PAIRS_AT_ONCE = 1 << 13  # whose factors fit the processor's cache
TRUTH, BLOCK = 0, 1  # what a stream of random numbers is for


class Synthetic:
    """The ratings that `settings` describe, and the truth about them.

    Users have ids 1 … n_users and movies 1 … n_movies; a movie's says nothing of its popularity.
    What is held in memory grows with users and movies only, some 50 bytes each.
    """

    def __init__(self, settings: SyntheticSettings) -> None:
        self.n_users, self.n_movies = settings.users, settings.movies
        self._settings, self._seed = settings, settings.seed
        generator = self._generator(TRUTH)
        activity = generator.lognormal(0, ACTIVITY_STD, self.n_users)
        self._counts = _shares(settings.n_ratings, activity, settings.most_of_a_user)
        # In keys of 32 bits, which sort fast, a block has room for so many pairs of indices.
        least = self.n_movies * ROWS_OF_A_BLOCK / (1 << 31)
        room = np.maximum(self._counts, least)
        block = (np.cumsum(room) - room) // ROWS_OF_A_BLOCK
        self._starts = np.append(np.flatnonzero(np.diff(block, prepend=-1)), self.n_users)
        edges = np.arange(1.0, self.n_movies + 2) ** (1 - ZIPF_EXPONENT)
        self._popularity = np.diff(edges)  # ∫ x^-exponent from r to r + 1, for rank r
        self._movie_of = generator.permutation(self.n_movies).astype(np.int32)
        self._favourite = generator.integers(0, KINDS, self.n_users, np.uint8)
        self._user_tables = _weights(generator, self.n_users, USER_BIAS_STD)
        self._movie_tables = _weights(generator, self.n_movies, MOVIE_BIAS_STD)
        self._movie_tables[self._movie_of, 0] = self._liked(self._movie_tables[self._movie_of, 0])

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled as the settings alone."""
        return _unpickled, (self._settings.model_dump_json(),)

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return len(self._starts) - 1

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield every block in turn, or those from `start` to before `stop`."""
        return map(self.block, range(self.n_blocks)[start:stop])

    def block(self, number: int) -> pa.RecordBatch:
        """Return the ratings of one block of users, as RATINGS_SCHEMA, by user and by time.

        They are the same whatever was drawn before. Most blocks have ROWS_OF_A_BLOCK rows, up to
        one user's more or less.
        """
        generator = self._generator(BLOCK, number)
        first, after = self._starts[number], self._starts[number + 1]
        counts = self._counts[first:after]
        place = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
        chosen = self._chosen(counts, self._favourite[first:after], generator)
        ranks, times = self._in_time(place, chosen, generator)
        users, movies = place + np.int32(first), self._movie_of[ranks]
        noise = generator.standard_normal(len(users), np.float32) * np.float32(NOISE_STD)
        rated = np.clip(np.rint(self._centers(users, movies) + noise), LEVELS[0], LEVELS[-1])
        starts = generator.uniform(0, YEARS, len(counts))
        ends = starts + generator.exponential(YEARS_OF_A_USER, len(counts))
        lengths = np.minimum(ends, YEARS) - starts
        seconds = FIRST_SECOND + (starts[place] + lengths[place] * times) * YEAR
        columns = [(users + 1).astype(np.int32), movies + 1, rated, seconds.astype(np.int64)]
        arrays = [
            pa.array(column).view(kind)
            for column, kind in zip(columns, RATINGS_SCHEMA.types, strict=True)
        ]
        return pa.record_batch(arrays, schema=RATINGS_SCHEMA)

    def expected(self, users: Ids, movies: Ids) -> npt.NDArray[np.float32]:
        """Return E[r | c] for pairs of ids (n,), (n,): the best that can be predicted of them."""
        return self._moments(users, movies)[0].astype(np.float32)

    def noise_floor(self, users: Ids, movies: Ids) -> float:
        """Return √ mean Var[r | c] over pairs of ids (n,), (n,), in stars."""
        mean, square = self._moments(users, movies)
        return float(np.sqrt(np.mean(square - mean**2)))

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.SFC64(np.random.SeedSequence(self._seed, spawn_key=key))
        )

    def _liked(self, biases: Numbers) -> Numbers:
        """Return the biases by rank, the more popular the higher, those of all ratings zero."""
        logarithm = np.log(self._popularity)
        spread = logarithm.std() or 1.0  # of one movie
        trend = MOVIE_BIAS_STD * (logarithm - logarithm.mean()) / spread
        own = np.sqrt(1 - LIKED_WITH_POPULARITY**2)
        liked: Numbers = LIKED_WITH_POPULARITY * trend + own * biases
        liked -= np.average(liked, weights=self._popularity)
        return liked

    def _chosen(
        self,
        counts: npt.NDArray[np.int64],
        favourite: npt.NDArray[np.uint8],
        generator: np.random.Generator,
    ) -> npt.NDArray[np.uint32]:
        """Draw each user's movies one after the other, without replacement.

        Return `user * n_movies + rank`, sorted, users counted from 0.
        """
        firsts = np.arange(len(counts), dtype=np.uint32) * np.uint32(self.n_movies)
        raced = counts > RACED * self.n_movies
        missing = drawn = np.where(raced, 0, counts)
        keys = np.empty(0, np.uint32)
        while missing.any():  # to draw with replacement until enough are distinct is the same
            ranks = self._to_taste(
                self._ranks(missing.sum(), generator), np.repeat(favourite, missing), generator
            )
            new = np.repeat(firsts, missing) + ranks
            new.sort()
            keys = np.concatenate([keys, new])
            keys.sort(kind="stable")  # a merge, of what is sorted already
            keys = keys[np.append(True, keys[1:] != keys[:-1])]
            missing = drawn - np.diff(np.searchsorted(keys, firsts), append=len(keys))
        parts = [keys]
        for first, n, kind in zip(firsts[raced], counts[raced], favourite[raced], strict=True):
            # Exponential times with the probabilities as rates come in the order of such draws.
            times = generator.standard_exponential(self.n_movies) / self._probability(kind)
            parts.append(first + np.argpartition(times, n - 1)[:n].astype(np.uint32))
        return np.sort(np.concatenate(parts))

    def _ranks(self, n: int, generator: np.random.Generator) -> npt.NDArray[np.uint32]:
        """Draw `n` ranks by popularity, by the inverse of its distribution function."""
        power = 1 - ZIPF_EXPONENT
        last = (self.n_movies + 1) ** power - 1
        ranks = (1 + last * generator.random(n)) ** (1 / power) - 1
        chosen: npt.NDArray[np.uint32] = ranks.clip(max=self.n_movies - 1).astype(np.uint32)
        return chosen

    def _to_taste(
        self,
        ranks: npt.NDArray[np.uint32],
        favourite: npt.NDArray[np.uint8],
        generator: np.random.Generator,
    ) -> npt.NDArray[np.uint32]:
        """Move some of the ranks (n,), the kinds of which go in turn, to the favourite kind."""
        moved = ranks - ranks % KINDS + favourite
        moves = (generator.random(len(ranks), np.float32) < TO_TASTE) & (moved < self.n_movies)
        return np.where(moves, moved, ranks)

    def _probability(self, favourite: int) -> Numbers:
        """Return how likely each rank is drawn by who has a favourite kind, up to a factor."""
        movable = np.arange(self.n_movies) // KINDS * KINDS + favourite < self.n_movies
        probability = self._popularity * (1 - TO_TASTE * movable)
        starts = np.arange(0, self.n_movies, KINDS)
        moved = TO_TASTE * np.add.reduceat(self._popularity * movable, starts)
        probability[favourite::KINDS] += moved[: len(probability[favourite::KINDS])]
        return probability

    def _in_time(
        self,
        place: npt.NDArray[np.uint32],
        keys: npt.NDArray[np.uint32],
        generator: np.random.Generator,
    ) -> tuple[npt.NDArray[np.uint64], Numbers]:
        """Return each user's ranks in a random order, and ascending times in 0 … 1."""
        rank_bits = self.n_movies.bit_length()
        times = generator.integers(0, 1 << TIME_BITS, len(keys), np.uint64)
        order = (place.astype(np.uint64) << TIME_BITS | times) << rank_bits
        order |= keys - place * np.uint32(self.n_movies)
        order.sort()
        times = order >> rank_bits & ((1 << TIME_BITS) - 1)
        return order & ((1 << rank_bits) - 1), times / (1 << TIME_BITS)

    def _centers(self, users: Ids, movies: Ids) -> npt.NDArray[np.float32]:
        """Return c (n,) for pairs of indices (n,), (n,) from 0 on."""
        centers = np.empty(len(users), np.float32)
        for start in range(0, len(users), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            p, q = self._user_tables.take(users[some], 0), self._movie_tables.take(movies[some], 0)
            np.einsum("nf,nf->n", p[:, 1:], q[:, 1:], out=centers[some])
            centers[some] += np.float32(MEAN) + p[:, 0] + q[:, 0]
        return centers

    def _moments(self, users: Ids, movies: Ids) -> tuple[Numbers, Numbers]:
        """Return E[r | c] and E[r² | c] for pairs of ids (n,), (n,)."""
        import torch  # to draw ratings, which others do in little memory, takes none

        centers = torch.from_numpy(self._centers(users - 1, movies - 1)).double()
        mean, square = torch.ones_like(centers), torch.ones_like(centers)
        for level in LEVELS[:-1]:
            above = torch.special.ndtr((centers - level - 0.5) / NOISE_STD)
            mean += above
            square += (2 * level + 1) * above
        return mean.numpy(), square.numpy()


def synthetic_pieces(settings: SyntheticSettings) -> list[Callable[[], Iterator[pa.RecordBatch]]]:
    """Return what draws BLOCKS_OF_A_PIECE blocks each, all of them in order, and can be pickled."""
    drawn = Synthetic(settings)  # they share it, and it goes with them
    starts = range(0, drawn.n_blocks, BLOCKS_OF_A_PIECE)
    return [partial(drawn.batches, start, start + BLOCKS_OF_A_PIECE) for start in starts]


# The truth takes longer to draw than a few blocks: a worker of a cluster, which ends with its run,
# keeps it for its next piece.
@lru_cache(maxsize=1)
def _unpickled(settings: str) -> Synthetic:
    return Synthetic(SyntheticSettings.model_validate_json(settings))


def _shares(n: int, weights: Numbers, most: int) -> npt.NDArray[np.int64]:
    """Return `n` in shares of 1 … `most`, in proportion to the `weights` but for those ends."""
    low, high = 0.0, most / weights.min()
    for _ in range(100):  # halving a float's bits
        scale = (low + high) / 2
        low, high = (scale, high) if np.clip(scale * weights, 1, most).sum() < n else (low, scale)
    shares = np.clip(high * weights, 1, most)
    whole: npt.NDArray[np.int64] = shares.astype(np.int64)
    # What was cut off comes back where its sum passes a whole number: the sum is kept.
    cut = np.floor(np.cumsum(shares - whole) + 0.5)
    whole += np.diff(cut, prepend=0).astype(np.int64)
    return whole


def _weights(generator: np.random.Generator, n: int, bias_std: float) -> npt.NDArray[np.float32]:
    """Draw [bias, factors] of each, (n, 1 + FACTORS)."""
    weights = generator.standard_normal((n, 1 + FACTORS), np.float32)
    weights *= np.array([bias_std] + [FACTOR_STD] * FACTORS, np.float32)
    return weights
