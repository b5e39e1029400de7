"""Somebody's own tables as an archive: copied as they are, with what it takes to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cf_pipeline.recommender.archive_tables import MOVIES, RATINGS
from cf_pipeline.recommender.custom_files import address_of, fingerprint, last_change, receive
from cf_pipeline.recommender.datasets import CUSTOM, describe
from cf_pipeline.recommender.verification import ReceivedArchive, digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from cf_pipeline.recommender.custom_settings import CustomRatingsSettings
    from cf_pipeline.recommender.downloads import Log


def fetch_custom(destination: Path, settings: CustomRatingsSettings, log: Log) -> ReceivedArchive:
    """Copy the tables that `settings` name into the empty folder `destination`, and describe them.

    Where they were is not described: the same ratings from elsewhere are the same archive.

    Raises:
        CustomTableError: they cannot be read.
    """
    log(f"Copying the ratings at {address_of(settings.path)}.")  # which has no password
    names = receive(settings.path, destination, RATINGS)
    if settings.movies:
        names += receive(settings.movies.path, destination, MOVIES)
    describe(destination, CUSTOM, settings=reading(settings))
    files = [destination / name for name in names]
    size = sum(file.stat().st_size for file in files)
    return ReceivedArchive(
        settings.path,
        tuple(names),
        size,
        digest_of(files),
        matches_release=False,
        checked_by="nothing",
    )


def paths(settings: CustomRatingsSettings) -> list[str]:
    """Return where each table is."""
    return [settings.path, *([settings.movies.path] if settings.movies else [])]


def fingerprints(settings: CustomRatingsSettings) -> list[str]:
    """Return what tells the content of each of `paths`, as `custom_files.fingerprint`."""
    return [fingerprint(path) for path in paths(settings)]


def changed(settings: CustomRatingsSettings) -> float:
    """Return when one of the tables last changed, as `custom_files.last_change`."""
    return max(last_change(path) for path in paths(settings))


def reading(settings: CustomRatingsSettings) -> dict[str, object]:
    """Return the settings that say how the tables are read, wherever they are."""
    movies = settings.movies.model_copy(update={"path": ""}) if settings.movies else None
    return settings.model_copy(update={"path": "", "movies": movies}).model_dump()
