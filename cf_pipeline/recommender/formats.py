"""How the tables of MovieLens' releases are written.

Fields are given as regular expressions: what does not match them is no row.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Fields = dict[str, str]

# fmt: off
# u.genre: the names of u.item's flags, in their order.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)
# What ml-1m's codes 0, 1, ... stand for, by its README.
OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker",
    "K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist",
    "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer",
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# fmt: on
NO_GENRES = "(no genres listed)"
LONGEST_TEXT = 1000  # characters, several times those of MovieLens 100k's longest address


class Format(NamedTuple):
    """How a table is written in `file`; `fields` has, in order, what each must match.

    The `separator` is in no field, or else the table is `quoted`: a field that has it, or a quote,
    is in double quotes, and its quotes are doubled.
    """

    file: str
    separator: str
    fields: Fields
    encoding: str = "utf-8"
    header: str = ""
    quoted: bool = False


class Layout(NamedTuple):
    """The tables of an archive, and the `folders` they may be in within a zip, with a / each.

    `others` are files that are kept beside them.
    """

    folders: tuple[str, ...]
    ratings: Format
    movies: Format
    users: Format | None = None
    others: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, Format]:
        """The format of each table that there is: movies, users and ratings."""
        tables = {"movies": self.movies, "users": self.users, "ratings": self.ratings}
        return {name: table for name, table in tables.items() if table}


_CONTROLS = r"\x00-\x1f\x7f"
_ID = r"(?:0|[1-9][0-9]{0,9})"  # a leading zero would be lost in the number
_RATING = {
    "user": _ID,
    "movie": _ID,
    "rating": r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?",
    "timestamp": r"[0-9]{1,10}",  # seconds: milliseconds would have more digits
}
_GENRE = f"(?:{'|'.join(map(re.escape, GENRES))})"
_DATE = rf"[0-9]{{1,2}}-(?:{'|'.join(MONTHS)})-[0-9]{{4}}"  # 01-Jan-1995, and once 4-Feb-1971
_TEXT = rf"[^|{_CONTROLS}\x80-\x9f]{{1,{LONGEST_TEXT}}}"  # no control characters, such as tabs
_USER = {
    "user": _ID,
    "age": r"[0-9]{1,3}",
    "gender": "[MF]",
    "occupation": _TEXT,
    "zip": _TEXT,
}

# --- MovieLens 100k: the archive's own layout, and that of the recbole wheel

ML_100K = Layout(
    folders=("ml-100k/", ""),
    ratings=Format("u.data", "\t", _RATING, "latin-1"),
    movies=Format(
        "u.item",
        "|",
        {
            "movie": _ID,
            "title": _TEXT,
            "release_date": f"(?:{_DATE})?",
            "video_release_date": f"(?:{_TEXT})?",
            "imdb_url": f"(?:{_TEXT})?",
            **dict.fromkeys(GENRES, "[01]"),
        },
        "latin-1",
    ),
    users=Format("u.user", "|", _USER, "latin-1"),
    others=("u.genre",),
)
RECBOLE = Layout(
    folders=("recbole/dataset_example/ml-100k/",),
    ratings=Format(
        "ml-100k.inter",
        "\t",
        _RATING,
        header="user_id:token\titem_id:token\trating:float\ttimestamp:float",
    ),
    movies=Format(
        "ml-100k.item",
        "\t",
        {
            "movie": _ID,
            "title": _TEXT,
            "release_year": _TEXT,
            "genres": f"{_GENRE}(?: {_GENRE}){{0,{len(GENRES) - 1}}}",
        },
        header="item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
    ),
    users=Format(
        "ml-100k.user",
        "\t",
        _USER,
        header="user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
    ),
)

# --- The others: fields between :: at first, comma-separated values later

_COLONS = rf"(?:[^:{_CONTROLS}]|:(?!:)){{1,{LONGEST_TEXT}}}"
_WORD = rf'[^|,:"{_CONTROLS}]{{1,40}}'
_GENRE_LIST = rf"{_WORD}(?:\|{_WORD}){{0,40}}"  # NO_GENRES, too, is a word


def _dat_movies(encoding: str) -> Format:
    fields = {"movie": _ID, "title": _COLONS, "genres": _GENRE_LIST}
    return Format("movies.dat", "::", fields, encoding)


_DAT_RATINGS = Format("ratings.dat", "::", _RATING)
ML_1M = Layout(
    folders=("ml-1m/", ""),
    ratings=_DAT_RATINGS,
    movies=_dat_movies("latin-1"),
    users=Format(
        "users.dat",
        "::",
        {
            "user": _ID,
            "gender": "[MF]",
            "age": "(?:1|18|25|35|45|50|56)",  # where a bracket of ages begins
            "occupation": f"(?:{'|'.join(map(str, range(len(OCCUPATIONS))))})",
            "zip": _COLONS,
        },
        "latin-1",
    ),
)
ML_10M = Layout(("ml-10M100K/", ""), _DAT_RATINGS, _dat_movies("utf-8"))


def csv_layout(folder: str) -> Layout:
    """Return the layout of ml-20m and later releases, in a folder of a zip."""
    plain, quoted = rf'[^",{_CONTROLS}]', rf'(?:[^"{_CONTROLS}]|"")'
    text = f'(?:{plain}{{1,{LONGEST_TEXT}}}|"{quoted}{{1,{LONGEST_TEXT}}}")'
    return Layout(
        (folder, ""),
        Format("ratings.csv", ",", _RATING, header="userId,movieId,rating,timestamp"),
        Format(
            "movies.csv",
            ",",
            {"movie": _ID, "title": text, "genres": _GENRE_LIST},
            header="movieId,title,genres",
            quoted=True,
        ),
    )
