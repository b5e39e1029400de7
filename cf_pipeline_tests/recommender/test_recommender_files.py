"""The files of a recommender: what is loaded is what was saved, and damaged ones are refused."""

import json
import os
import re
import struct
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from cf_pipeline.recommender.factor_model import ModelFileError
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.vocabulary import Vocabulary
from cf_pipeline_tests.recommender.damages import Damage, cut, with_tensors, without, written
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory
from cf_pipeline_tests.recommender.recommenders import some_recommender

MOST_MEMORY = 768 << 20  # bytes, most of them torch's
SMALL = {strings: some_recommender(strings) for strings in (False, True)}


@pytest.mark.parametrize("strings", [False, True], ids=["numbers", "strings"])
def test_a_saved_recommender_makes_the_same_lists(tmp_path: Path, strings: bool) -> None:
    recommender = SMALL[strings]
    recommender.save(tmp_path)
    loaded = Recommender.load(tmp_path)
    for user in [*recommender.history.vocabulary.ids, "nobody" if strings else 10**6]:
        pd.testing.assert_frame_equal(loaded.recommend(user), recommender.recommend(user))
    title = recommender.titles[7]
    pd.testing.assert_frame_equal(
        loaded.recommend({title: 4.5}), recommender.recommend({title: 4.5})
    )
    pd.testing.assert_frame_equal(loaded.similar(title), recommender.similar(title))


def test_equal_recommenders_have_equal_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        some_recommender().save(tmp_path / name)
    files = [{p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "other")]
    assert files[0] == files[1]
    assert len(files[0]) == 9


def test_one_without_ids_is_neither_saved_nor_asked(tmp_path: Path) -> None:
    recommender = some_recommender()
    recommender.model.rating.vocabularies = None
    with pytest.raises(ValueError, match="knows indices, not ids"):
        recommender.save(tmp_path)
    with pytest.raises(ValueError, match="knows indices, not ids"):
        recommender.recommend(1)


def of_another_model(name: str) -> Damage:
    def damage(folder: Path) -> None:
        other = folder / "other"
        other.mkdir()
        some_recommender(n_movies=31).save(other)
        (other / name).rename(folder / name)

    return damage


def with_titles(content: object) -> Damage:
    return written("titles.json", json.dumps(content))


def with_history(**changed: Tensor | None) -> Damage:
    return with_tensors("history", changed)


def claiming_a_billion_ratings(folder: Path) -> None:
    """Make the history 13 GB long, and its header right; it takes no room on the disk."""
    kinds = {"raters": "I32", "items": "I32", "ratings": "F32", "in_training": "BOOL"}
    header, n, end = {}, 10**9, 0
    for name, kind in kinds.items():
        start, end = end, end + n * (1 if kind == "BOOL" else 4)
        header[name] = {"dtype": kind, "shape": [n], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path = folder / "history.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + end)


N = len(SMALL[False].history.ratings)
NAMES = ("titles.json", "history.safetensors", "rater_vocabulary.parquet")
BELONGS = "Materialize ranking_model again"
DAMAGES: dict[str, tuple[Damage, str]] = {
    **{f"no {name}": (without(name), name) for name in NAMES},
    "titles cut short": (cut("titles.json"), "Invalid JSON"),
    "a history cut short": (cut("history.safetensors"), "not fully covered"),
    "raters cut short": (cut("rater_vocabulary.parquet"), "is not a vocabulary"),
    "titles of another model": (of_another_model("titles.json"), "32 titles of 31 movies"),
    "a history of another model": (of_another_model("history.safetensors"), "items reaches"),
    "factors of another model": (
        of_another_model("ranking.safetensors"),
        "but is torch.float32 (32, 4)",
    ),
    "no list of titles": (with_titles({"1": "Toy Story"}), "valid array"),
    "titles that are numbers": (with_titles([1] * 31), "valid string"),
    "titles of a megabyte": (with_titles(["x" * 10**6] * 31), "more than 186,000 bytes"),
    "a tensor too few": (with_history(raters=None), "raters"),
    "a tensor too many": (with_history(ages=torch.ones(N)), "ages"),
    "a tensor of the vocabulary's name": (with_history(vocabulary=torch.ones(N)), "vocabulary"),
    "a rating too few": (with_history(ratings=torch.ones(N - 1)), f"({N},), but is"),
    "raters without shape": (with_history(raters=torch.tensor(1).int()), "0-d"),
    "ratings in half precision": (with_history(ratings=torch.ones(N).half()), "torch.float16"),
    "a rating of NaN": (with_history(ratings=torch.full((N,), torch.nan)), "ratings reaches"),
    "a negative rating": (with_history(ratings=-torch.ones(N)), "ratings reaches beyond"),
    "an infinite rating": (with_history(ratings=torch.full((N,), torch.inf)), "ratings reaches"),
    "a rater too many": (with_history(raters=torch.full((N,), 22).int()), "raters reaches"),
    "a negative item": (with_history(items=torch.full((N,), -1).int()), "items reaches"),
    "a billion ratings": (claiming_a_billion_ratings, "1,000,000,000 ratings"),
    "fewer raters": (
        lambda folder: Vocabulary.of(range(20)).save(folder / "rater_vocabulary.parquet"),
        "raters reaches",
    ),
}


def attempt(damage: Damage, text: str, folder: Path) -> None:
    SMALL[False].save(folder)
    damage(folder)
    with pytest.raises(ModelFileError, match=re.escape(text)) as caught:
        Recommender.load(folder)
    assert str(folder) in str(caught.value)
    assert BELONGS in str(caught.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    attempt(*DAMAGES[name], tmp_path)


def _attempt_all(folder: Path) -> None:
    for number, (damage, text) in enumerate(DAMAGES.values()):
        (folder / str(number)).mkdir()
        attempt(damage, text, folder / str(number))


@MEASURED
def test_no_damaged_file_takes_much_memory(tmp_path: Path) -> None:
    assert peak_memory(_attempt_all, tmp_path) < MOST_MEMORY
