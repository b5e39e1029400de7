"""Writes tables in the layout of any release of MovieLens."""

import csv
import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from cf_pipeline.recommender.datasets import describe, release
from cf_pipeline.recommender.formats import NO_GENRES, OCCUPATIONS
from cf_pipeline.recommender.movielens import MOVIES_SCHEMA, RATINGS_SCHEMA, USERS_SCHEMA
from cf_pipeline_tests.recommender.layouts import Tables, archive_files

RATINGS_HEADER = "userId,movieId,rating,timestamp\n"


def a_time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def some_tables(name: str) -> Tables:
    """A few rows with what is odd in the releases."""
    step = release(name).scale.step
    ratings = [(1, 1193, 5.0), (1, 661, 3.0), (6040, 1, 5 - step), (2, 131262, step)]
    titles = [
        (1, "Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
        (661, "Misérables, Les (1995)", ["Drama"]),
        (1193, "One Flew Over the Cuckoo's Nest: 2 (1975)", ["Sci-Fi", "IMAX"]),
        (131262, 'He said "no", twice', [] if name != "ml-100k" else ["Drama"]),
    ]
    users = [(1, 1, "F", "K-12 student", "48067"), (2, 56, "M", "self-employed", "70072-1234")]
    known = {"IMAX"} if name == "ml-100k" else set()
    return Tables(
        pa.Table.from_pylist(
            [
                {"user": u, "movie": m, "rating": r, "timestamp": a_time(978300760 + m)}
                for u, m, r in ratings
            ],
            RATINGS_SCHEMA,
        ),
        pa.Table.from_pylist(
            [
                {"movie": i, "title": title, "genres": [g for g in genres if g not in known]}
                for i, title, genres in titles
            ],
            MOVIES_SCHEMA,
        ),
        pa.Table.from_pylist(
            [dict(zip(USERS_SCHEMA.names, user, strict=True)) for user in users], USERS_SCHEMA
        ),
    )


def release_files(name: str, tables: Tables) -> dict[str, bytes]:
    """Each file of a release, by its name; of users only those that the release has."""
    if name == "ml-100k":
        return archive_files(tables)
    if name not in ("ml-1m", "ml-10m"):
        return {"ratings.csv": _csv_ratings(tables), "movies.csv": _csv_movies(tables)}
    files = {
        "ratings.dat": _dat([list(row) for row in _ratings(tables, "{:g}")]),
        "movies.dat": _dat([[str(i), title, words] for i, title, words in _movies(tables)]),
    }
    if name == "ml-1m":
        files["users.dat"] = _dat(
            [
                [
                    str(row["user"]),
                    row["gender"],
                    str(row["age"]),
                    str(OCCUPATIONS.index(row["occupation"])),
                    row["zip"],
                ]
                for row in tables.users.to_pylist()
            ]
        )
        files = {file: data.decode().encode("latin-1") for file, data in files.items()}
    return files


def write_release(name: str, tables: Tables, directory: Path, *, zipped: bool) -> Path:
    """Write a release into `directory`, as an archive that was fetched, and return that."""
    directory.mkdir(parents=True, exist_ok=True)
    describe(directory, name)
    dataset = release(name)
    if not zipped:
        for file, data in release_files(name, tables).items():
            (directory / file).write_bytes(data)
        return directory
    with zipfile.ZipFile(directory / dataset.file.name, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr(f"{dataset.folder}/README", "")
        for file, data in release_files(name, tables).items():
            members.writestr(f"{dataset.folder}/{file}", data)
    return directory


def _ratings(tables: Tables, number: str) -> list[tuple[str, ...]]:
    rows = tables.ratings.to_pylist()
    return [
        (
            str(row["user"]),
            str(row["movie"]),
            number.format(row["rating"]),
            str(int(row["timestamp"].timestamp())),
        )
        for row in rows
    ]


def _movies(tables: Tables) -> list[tuple[int, str, str]]:
    return [
        (row["movie"], row["title"], "|".join(row["genres"]) or NO_GENRES)
        for row in tables.movies.to_pylist()
    ]


def _dat(rows: list[list[str]]) -> bytes:
    return "".join("::".join(row) + "\n" for row in rows).encode()


def _csv_ratings(tables: Tables) -> bytes:
    rows = _ratings(tables, "{:.1f}")
    return (RATINGS_HEADER + "".join(",".join(row) + "\n" for row in rows)).encode()


def _csv_movies(tables: Tables) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["movieId", "title", "genres"])
    writer.writerows(_movies(tables))
    return text.getvalue().encode()
