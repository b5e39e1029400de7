"""Room in temporary files: what is in it, what is left of it, and what a lack of it says."""

import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cf_pipeline.recommender.budget import both_sides
from cf_pipeline.recommender.executors import BlockError
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.settings import BlockSettings
from cf_pipeline.recommender.storage import empty
from cf_pipeline_tests.recommender.simulation import some_ratings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, and nothing else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def full() -> Iterator[None]:
    """No file may have more than 1 MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("device", [torch.device("cpu"), None], ids=["memory", "file"])
@pytest.mark.parametrize("n", [0, 1, 400_000])
def test_what_is_written_is_read_again(n: int, device: torch.device | None, folder: Path) -> None:
    for dtype in (torch.int32, torch.float32, torch.float64):
        room = empty(n, dtype, device)
        assert (room.shape, room.dtype) == ((n,), dtype)
        room.copy_(torch.arange(n))
        assert torch.equal(room, torch.arange(n).to(dtype))


def test_files_have_no_name_that_a_process_which_is_killed_would_leave(folder: Path) -> None:
    room = empty(1000, torch.int32, None)
    room.fill_(7)
    assert list(folder.iterdir()) == []
    assert room.sum() == 7000


def budget(gib: float) -> BlockSettings:
    return BlockSettings(memory_gib=gib)


def test_ratings_beyond_the_budget_are_in_files_and_no_others(full: None) -> None:
    ratings, side = some_ratings(400)
    many = EncodedRatings(*(column.repeat(1000) for column in ratings))
    sizes, gib = (len(side.users), len(side.items)), 2 * 8 * len(many.ratings) / 2**30
    both_sides(many, *sizes, budget(gib), with_values=True)
    both_sides(many, *sizes, budget(gib / 2), with_values=False)
    for too_little, replaceable in ((budget(gib * 0.99), False), (budget(gib), True)):
        with pytest.raises(BlockError, match="Block 1 of 1 of the users .*memory_gib") as error:
            both_sides(many, *sizes, too_little, with_values=True, replaceable=replaceable)
        assert isinstance(error.value.__cause__, OSError)


def test_a_full_disk_is_an_error_that_says_what_to_do(full: None, folder: Path) -> None:
    with pytest.raises(
        OSError, match=r"no room for 0\.0019 GiB .*TMPDIR, or raise memory_gib"
    ) as error:
        empty(500_000, torch.int32, None)
    assert str(folder) in str(error.value)
    assert list(folder.iterdir()) == []
