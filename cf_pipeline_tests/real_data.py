"""The real archive, fetched once per machine and kept outside the repository."""

import logging
from pathlib import Path

import pooch
from filelock import FileLock

from cf_pipeline.recommender.sources import fetch_archive

log = logging.getLogger(__name__)  # warnings go to standard error, which a report is not on


def real_archive() -> Path:
    """Return the folder of the real archive, fetching it on the first call on this machine."""
    cache = Path(pooch.os_cache("cf_pipeline_tests"))
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "ml-100k"
    with FileLock(cache / "ml-100k.lock"):
        if not folder.exists():
            partial = folder.with_suffix(f".{id(folder)}")
            fetch_archive(partial, ["auto"], timeout=120, retries=2, log=log.warning)
            partial.rename(folder)
    return folder
