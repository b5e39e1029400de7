"""The releases of MovieLens: what each one's file is, its rating scale, and the layouts it has.

An archive says in its `dataset.json` which one it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cf_pipeline.recommender.bounded import read_at_most
from cf_pipeline.recommender.downloads import RemoteFile
from cf_pipeline.recommender.formats import ML_1M, ML_10M, ML_100K, RECBOLE, Layout, csv_layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CUSTOM, SYNTHETIC = "custom", "synthetic"
# Those of DATASETS, and ratings that are none of MovieLens'.
Name = Literal[
    "ml-100k", "ml-latest-small", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m",
    "synthetic", "custom",
]  # fmt: skip
OFFICIAL_URL = "https://files.grouplens.org/datasets/movielens"
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872"
)
DESCRIPTION = "dataset.json"
UNTIMED = "ratings_without_timestamp"  # in the metadata of ratings, where there are some
LONGEST_DESCRIPTION = 1 << 16  # bytes


class Scale(NamedTuple):
    """The ratings that there can be: `low`, `low` + `step`, ..., `high`; of step 0 any between."""

    low: float
    high: float
    step: float


class Dataset(NamedTuple):
    """A release: its file, its rating scale, and the layouts that its tables come in.

    The first layout is that of `file`, whose folder is `folder`; unpacked it is a source too.
    `readme` has the terms of use, and `note` what to know of the file where it cannot be had. Where
    `ratings_sha256` is known, it is of the ratings as lines, in whatever layout.
    """

    name: str
    file: RemoteFile
    scale: Scale
    layouts: tuple[Layout, ...]
    readme: str
    note: str = ""
    ratings_sha256: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name.replace("ml-", "MovieLens ")

    @property
    def folder(self) -> str:
        """The folder that unpacking the file gives."""
        return self.layouts[0].folders[0].rstrip("/")

    @property
    def licence(self) -> str:
        """The terms of use, and where they are."""
        return (
            "For research use; no redistribution without permission of GroupLens, University of "
            f"Minnesota ({OFFICIAL_URL}/{self.readme})."
        )


def describe(directory: Path, name: str, **settings: object) -> Path:
    """Say in the archive `directory` of which dataset it is, and with what settings it is read."""
    path = directory / DESCRIPTION
    path.write_text(json.dumps({"dataset": name, **settings}) + "\n")
    return path


def described(directory: Path) -> dict[str, Any]:
    """Return what `describe` wrote; an archive that says nothing is MovieLens 100k."""
    path = directory / DESCRIPTION
    if not path.exists():
        return {"dataset": "ml-100k"}
    found = json.loads(read_at_most(path, LONGEST_DESCRIPTION))
    if not isinstance(found, dict) or not isinstance(found.get("dataset"), str):
        raise ValueError(f"{path} does not name a dataset. Materialize movielens_archive again.")
    return found


def dataset_of(directory: Path) -> Dataset:
    """Return the release that the archive in `directory` is of, ValueError if it is of none."""
    return release(described(directory)["dataset"])


def release(name: str) -> Dataset:
    """Return the release of this name, ValueError if there is none."""
    if name not in DATASETS:
        raise ValueError(f"{name!r} is no release of MovieLens: those are {', '.join(DATASETS)}.")
    return DATASETS[name]


STARS, _HALVES = Scale(1.0, 5.0, 1.0), Scale(0.5, 5.0, 0.5)
# fmt: off
_DECLARED = (
    Dataset("ml-100k", RemoteFile(
        "ml-100k.zip", 4_924_029,
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    ), STARS, (ML_100K, RECBOLE), "ml-100k-README.txt",
        ratings_sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"),
    Dataset("ml-latest-small", RemoteFile(
        "ml-latest-small.zip", 978_202,
        "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    ), _HALVES, (csv_layout("ml-latest-small/"),), "ml-latest-small-README.html", note=(
        "GroupLens changes this one at times: another than the one known here is taken only from "
        "a path, so download it by hand, or use a release that stays, such as ml-1m."
    )),
    Dataset("ml-1m", RemoteFile(
        "ml-1m.zip", 5_917_549,
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    ), STARS, (ML_1M,), "ml-1m-README.txt"),
    Dataset("ml-10m", RemoteFile(
        "ml-10m.zip", None, md5="ce571fd55effeba0271552578f2648bd",
    ), _HALVES, (ML_10M,), "ml-10m-README.html"),
    Dataset("ml-20m", RemoteFile(
        "ml-20m.zip", 198_702_078,
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
    ), _HALVES, (csv_layout("ml-20m/"),), "ml-20m-README.html"),
    Dataset("ml-25m", RemoteFile(
        "ml-25m.zip", 261_978_986,
        "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
    ), _HALVES, (csv_layout("ml-25m/"),), "ml-25m-README.html"),
    Dataset("ml-32m", RemoteFile(
        "ml-32m.zip", None,
    ), _HALVES, (csv_layout("ml-32m/"),), "ml-32m-README.html"),
)
# fmt: on
DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _DECLARED}
