"""What the config says of somebody's own ratings; `custom_files`, which reads them, takes Arrow."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, FiniteFloat, model_validator

PATH = (
    "A file, a folder of files of one kind, or an address of fsspec such as s3://bucket/ratings: "
    ".csv or .tsv, which may be compressed as .gz, .bz2 or .zst, or .parquet. No address with a "
    "user, a password or a query: credentials are taken from the environment."
)
Scale = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]


class CustomTableSettings(BaseModel, extra="forbid"):
    """Where a table is, and how its text is written."""

    path: str = Field(description=PATH)
    header: bool = Field(
        True, description="Of text: its first line names the columns. If not, they are f0, f1, …"
    )
    separator: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description="Of text: what parts the columns. By default a comma, in .tsv a tab.",
    )


class CustomMoviesSettings(CustomTableSettings):
    """The table of what is rated, and which of its columns are what."""

    item: str = Field("item", description="Column of the ids, as the ratings have them.")
    title: str = Field("title", description="Column of the titles; a year may end them: (1995).")
    genres: str | None = Field(None, description="Column of the genres, parted by |; null: none.")


class CustomRatingsSettings(CustomTableSettings):
    """The table of ratings, and which of its columns are what.

    Ids are integers if all are written as such, without leading zeros, and strings otherwise.
    """

    user: str = Field("user", description="Column of who rated.")
    item: str = Field("item", description="Column of what was rated; here it is called movie.")
    rating: str | None = Field(
        "rating",
        description="Column of the ratings, numbers on any scale; null: every row is an event, "
        "such as a purchase, and of a user and an item the first row counts.",
    )
    timestamp: str | None = Field(
        None,
        description="Column of when, whose cells may be empty: seconds, milliseconds, microseconds "
        "or nanoseconds since 1970, by their size, or ISO 8601, in UTC unless it says otherwise.",
    )
    scale: Scale | None = Field(
        None, description="Lowest and highest rating that may occur; null: any numbers."
    )
    movies: CustomMoviesSettings | None = Field(
        None, description="The table of what is rated; null: there is none, and titles are ids."
    )

    @model_validator(mode="after")
    def _check_scale(self) -> Self:
        if self.scale and self.scale[0] >= self.scale[1]:
            raise ValueError(f"the scale {self.scale} must be the lowest rating, then the highest")
        return self
