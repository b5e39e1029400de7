"""The rating scale: from the least to the greatest of the ratings that there are to learn from.

Whatever people rate by, 1 to 5 stars, ½ to 5, 0 to 100 or -10 to 10, it takes no setting. What is
meant in stars, such as a margin, is meant in quarters of the scale: of 1 to 5 they are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from torch import Tensor

MOST_LEVELS = 41  # that are told apart; then three quarters of the scale is a level, too


class RatingScale(NamedTuple):
    """The least and the greatest rating, `low` and `high`.

    They are equal where all ratings are alike, as events are that only say that something was
    watched: then nothing is there to predict, and nothing to like more than the rest.
    """

    low: float
    high: float

    @classmethod
    def of(cls, ratings: Tensor | pd.Series[float] | npt.NDArray[np.floating]) -> Self:
        """Return the scale of ratings (n,), of which there is at least one."""
        return cls(float(ratings.min()), float(ratings.max()))

    @property
    def is_constant(self) -> bool:
        """Whether all ratings are alike."""
        return self.low == self.high

    @property
    def star(self) -> float:
        """A quarter of the scale, which is a star of 1 to 5; 1 where all ratings are alike."""
        return (self.high - self.low) / 4 or 1.0

    @property
    def liked(self) -> float:
        """The least rating that says that somebody liked what they rated: 4 stars of 1 to 5.

        It is what people write, 0.9 of 0 to 1.2: from float32's 1.2 it would be a little more.
        """
        low, high = (float(str(np.float32(end))) for end in self)
        return low + 3 * (high - low) / 4

    @property
    def y_range(self) -> tuple[float, float]:
        """The range of predictions by default: 0 to 5.5 of 1 to 5.

        Where all ratings are alike, that rating is in the middle, which a sigmoid gives of 0.
        """
        if self.is_constant:
            reach = max(1.0, abs(self.low)) / 2  # no less than float32 tells from the rating
            return self.low - reach, self.high + reach
        return self.low - self.star, self.high + self.star / 2

    def in_stars(self, ratings: Tensor) -> Tensor:
        """Return ratings of this scale as if it were 1 to 5, which those of that one are."""
        return ratings if self == STARS else 1 + (ratings - self.low) / self.star

    def words(self, rating: float) -> str:
        """Return a rating as people say it: '4 stars', or of other scales than of 5 'rated 87'.

        Where all ratings are alike there is nothing to say.
        """
        if self.is_constant:
            return ""
        if self.low >= 0 and 1 < self.high <= 5:
            return f"{rating:g} star{'' if rating == 1 else 's'}"
        return f"rated {round(rating, 2):g}"


STARS = RatingScale(1, 5)


def nearest_levels(
    ratings: npt.NDArray[np.floating | np.integer], most: int = MOST_LEVELS
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.integer]]:
    """Return the distinct ratings (n_levels,), ascending, and the place among them of each (n,).

    Where there are more than `most`, these are even steps from the least to the greatest, and the
    place is that of the nearest.
    """
    levels, place = np.unique(ratings, return_inverse=True)
    if len(levels) <= most:
        return levels, place
    even = np.linspace(levels[0], levels[-1], most)
    return even, np.searchsorted((even[1:] + even[:-1]) / 2, ratings)
