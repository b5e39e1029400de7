"""What synthetic ratings may be asked for, apart from the code that draws them.

So Dagster can show it without importing pyarrow, and no other result's code version depends on it.
"""

import math
from typing import Self

from pydantic import BaseModel, Field, model_validator


class SyntheticSettings(BaseModel, extra="forbid"):
    """Settings of `Synthetic`."""

    n_ratings: int = Field(100_000, gt=0, description="Ratings, no two of one user and movie.")
    n_users: int | None = Field(
        None, gt=0, lt=1 << 31, description="Users; by default about as many as in MovieLens."
    )
    n_movies: int | None = Field(
        None,
        gt=0,
        lt=1 << 31,
        description="Movies, of which a user rates half at most; by default about as many as in "
        "MovieLens. Not every one is rated.",
    )
    seed: int = Field(0, ge=0, description="Of the truth and of the ratings.")

    @property
    def users(self) -> int:
        """The number of users: by default that of MovieLens 10M and 20M, within 1 %."""
        return self.n_users or round(self.n_ratings / 150 + math.sqrt(self.n_ratings))

    @property
    def movies(self) -> int:
        """The number of movies."""
        return self.n_movies or round(5 * math.sqrt(self.n_ratings))

    @property
    def most_of_a_user(self) -> int:
        """How many ratings a user may have."""
        return (self.movies + 1) // 2

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        most = self.users * self.most_of_a_user
        if not self.users <= self.n_ratings <= most:
            raise ValueError(
                f"{self.users:,} users who rate 1 … {self.most_of_a_user:,} of {self.movies:,} "
                f"movies have {self.users:,} … {most:,} ratings, not {self.n_ratings:,}: give "
                "other numbers of users or movies, or leave them out."
            )
        return self
