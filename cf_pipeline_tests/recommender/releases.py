"""Writes tables in the layout of any release of MovieLens."""

import csv
import io
import zipfile
from pathlib import Path

from cf_pipeline.recommender.datasets import describe, release
from cf_pipeline.recommender.formats import NO_GENRES, OCCUPATIONS
from cf_pipeline_tests.recommender.layouts import Tables, archive_files

RATINGS_HEADER = "userId,movieId,rating,timestamp\n"


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
