"""Fits that are stopped, or killed, go on from where they stood, and end as if they never were."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cf_pipeline.recommender import checkpoints, gibbs, implicit_als
from cf_pipeline.recommender.executors import LOCAL, LocalExecutor
from cf_pipeline.recommender.gibbs import Sampled
from cf_pipeline.recommender.implicit_als import ImplicitFactors
from cf_pipeline.recommender.posterior import Sample
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline_tests.recommender.executors import StoppedError, StoppingExecutor
from cf_pipeline_tests.recommender.simulation import some_ratings

SAMPLED = GibbsSettings(
    sampled_factors=3,
    feature_rank=4,
    sweeps=13,  # more than the ordinal likelihood takes to adapt
    burn_in=3,
    samples=5,
    block_ratings=100,
    checkpoint_seconds=1e-9,  # after every sweep
)
RANKED = RankingSettings(
    n_factors=4, feature_rank=3, iterations=5, block_ratings=100, checkpoint_seconds=1e-9
)
HALF_STEPS = 2 * SAMPLED.sweeps


def sample(
    folder: Path | None,
    executor: LocalExecutor = LOCAL,
    settings: GibbsSettings = SAMPLED,
    validated: bool = False,
    log: Callable[[str], None] = lambda _: None,
    n: int = 400,
    more: float = 0.0,
) -> Sampled:
    ratings, side = some_ratings(n)
    ratings = ratings._replace(ratings=ratings.ratings + more)
    rest, carved = ratings.carve(0.25, seed=0)
    validation = carved if validated else None
    return gibbs.fit(rest, side, settings, validation, log, executor, folder)


def rank(folder: Path | None, executor: LocalExecutor = LOCAL) -> ImplicitFactors:
    return implicit_als.fit(*some_ratings(), RANKED, executor=executor, folder=folder)


def stopped(fit: Callable[..., object], folder: Path, before: int, **other: object) -> None:
    """Fit until a half-step; there are two in a sweep, or in an iteration."""
    with pytest.raises(StoppedError):
        fit(folder, StoppingExecutor(before), **other)


def assert_same(one: Sampled, other: Sampled) -> None:
    for name in Sample._fields:
        assert torch.equal(getattr(one.posterior, name), getattr(other.posterior, name)), name
    assert one.trace == other.trace


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
@pytest.mark.parametrize("validated", [False, True], ids=["alone", "validated"])
@pytest.mark.parametrize("whole_sweeps", [1, 3, 4, 8, 12], ids=lambda n: f"after {n}")
def test_a_fit_that_was_stopped_goes_on_to_the_same_samples(
    likelihood: str, validated: bool, whole_sweeps: int, tmp_path: Path
) -> None:
    settings = SAMPLED.model_copy(update={"likelihood": likelihood})
    undisturbed = sample(None, settings=settings, validated=validated)
    before = 2 * whole_sweeps + 2  # in the midst of the next sweep
    stopped(sample, tmp_path / "fit", before, settings=settings, validated=validated)
    lines: list[str] = []
    executor = StoppingExecutor()
    resumed = sample(tmp_path / "fit", executor, settings, validated, lines.append)
    assert lines[0] == f"Going on after step {whole_sweeps}, where an earlier run came to."
    assert executor.half_steps == HALF_STEPS - 2 * whole_sweeps
    assert_same(resumed, undisturbed)
    assert resumed.seconds_before > 0 == undisturbed.seconds_before


@pytest.mark.parametrize("whole", [1, 4])
def test_factors_that_were_stopped_go_on_to_the_same(whole: int, tmp_path: Path) -> None:
    stopped(rank, tmp_path, before=2 * whole + 2)
    executor = StoppingExecutor()
    assert all(map(torch.equal, rank(tmp_path, executor), rank(None)))
    assert executor.half_steps == 2 * RANKED.iterations + 1 - 2 * whole


def test_a_fit_that_is_stopped_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    for _ in range(SAMPLED.sweeps - 1):
        stopped(sample, tmp_path, before=4, validated=True)  # of which two are of a whole sweep
    assert_same(sample(tmp_path, validated=True), sample(None, validated=True))


def fit_until_killed(folder: Path) -> None:
    sample(folder, StoppingExecutor(12, kill=True), validated=True)


def test_a_process_that_was_killed_is_gone_on_from_by_another(tmp_path: Path) -> None:
    process = get_context("spawn").Process(target=fit_until_killed, args=[tmp_path])
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    executor = StoppingExecutor()
    resumed = sample(tmp_path, executor, validated=True)
    assert executor.half_steps == HALF_STEPS - 10
    assert_same(resumed, sample(None, validated=True))


@pytest.mark.parametrize("file", range(18))  # 13 states, and 5 samples
def test_a_process_may_die_while_it_writes_any_file(
    file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def save_half(tensors: dict[str, Tensor], path: Path, about: dict[str, str] | None) -> None:
        save_file(tensors, path, about)
        if len(written) == file:
            os.truncate(path, path.stat().st_size // 2)
            raise StoppedError
        written.append(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", save_half)
        with pytest.raises(StoppedError):
            sample(tmp_path)
    executor = StoppingExecutor()
    assert_same(sample(tmp_path, executor), sample(None))
    n_states = sum(path.name.startswith("state") for path in written)
    assert executor.half_steps == HALF_STEPS - 2 * n_states


class Clock(StoppingExecutor):
    """Half a second passes with every half-step."""

    def monotonic(self) -> float:
        return self.half_steps / 2


def test_a_checkpoint_is_written_when_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_three = SAMPLED.model_copy(update={"checkpoint_seconds": 3.0})
    clock = Clock(stop_before=16)
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=clock.monotonic))
    with pytest.raises(StoppedError):
        sample(tmp_path, clock, every_three)
    monkeypatch.undo()
    executor = StoppingExecutor()
    assert_same(sample(tmp_path, executor, every_three), sample(None))
    assert executor.half_steps == HALF_STEPS - 12  # the last was after the sixth sweep


def test_a_fit_that_ends_before_a_checkpoint_is_due_writes_nothing(tmp_path: Path) -> None:
    by_default = GibbsSettings().checkpoint_seconds
    sample(tmp_path / "one", settings=SAMPLED.model_copy(update={"checkpoint_seconds": by_default}))
    of_default = RANKED.model_copy(update={"checkpoint_seconds": by_default})
    implicit_als.fit(*some_ratings(), of_default, folder=tmp_path / "other")
    assert list(tmp_path.iterdir()) == []


# --- checkpoints that are not gone on from


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, size)


def altered(name: str) -> Callable[[Path], object]:
    def alter(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:])

    return alter


def without_about(folder: Path) -> None:
    save_file({"users.weights": torch.ones(3)}, folder / "state.safetensors")


DAMAGES = {
    "a state cut short": cut("state.safetensors", 2000),
    "a state of which a bit is another": altered("state.safetensors"),
    "a sample of which a bit is another": altered("added-00001.safetensors"),
    "an empty state": cut("state.safetensors", 0),
    "a state that is something else": lambda folder: (folder / "state.safetensors").write_bytes(
        b"{}" * 4000
    ),
    "a state without what it is of": without_about,
    "a sample cut short": cut("added-00001.safetensors", 700),
    "a sample that is missing": lambda folder: (folder / "added-00000.safetensors").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    stopped(sample, tmp_path, before=17)
    assert len(list(tmp_path.glob("added-*"))) == 2
    damage(tmp_path)
    lines: list[str] = []
    executor = StoppingExecutor()
    assert_same(sample(tmp_path, executor, log=lines.append), sample(None))
    assert executor.half_steps == HALF_STEPS
    state = tmp_path / "state.safetensors"
    assert lines[0].startswith(f"Not going on from {state}, which cannot be read: ")


@pytest.mark.parametrize(
    "other",
    [
        {"settings": SAMPLED.model_copy(update={"seed": 1})},
        {"settings": SAMPLED.model_copy(update={"block_ratings": 50})},
        {"settings": SAMPLED.model_copy(update={"samples": 2})},
        {"validated": True},
        {"n": 396},
        {"more": 0.5},
    ],
    ids=["seed", "blocks", "samples", "validation", "fewer ratings", "other ratings"],
)
def test_a_checkpoint_of_another_fit_is_passed_over_and_that_is_said(
    other: dict[str, object], tmp_path: Path
) -> None:
    stopped(sample, tmp_path, before=17)
    lines: list[str] = []
    executor = StoppingExecutor()
    anew = sample(tmp_path, executor, log=lines.append, **other)  # type: ignore[arg-type]  # any argument
    assert executor.half_steps == HALF_STEPS
    assert lines[0] == f"Not going on from {tmp_path / 'state.safetensors'}: it is of another fit."
    assert_same(anew, sample(None, **other))  # type: ignore[arg-type]  # any argument


def test_how_often_and_in_how_much_memory_is_no_matter_of_the_fit(tmp_path: Path) -> None:
    stopped(sample, tmp_path, before=17)
    elsewhere = SAMPLED.model_copy(update={"checkpoint_seconds": 60.0, "memory_gib": 0.0})
    executor = StoppingExecutor()
    assert_same(sample(tmp_path, executor, elsewhere), sample(None))
    assert executor.half_steps == HALF_STEPS - 16


def test_a_fit_that_cannot_write_where_it_stands_goes_on_and_says_so(tmp_path: Path) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    lines: list[str] = []
    assert_same(sample(no_folder, log=lines.append), sample(None))
    assert lines[0].startswith(f"Where the fit stands was not written to {no_folder}: ")


def test_what_other_code_wrote_is_passed_over_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as edited:
        edited.setattr(checkpoints, "source_digest", lambda: "of an edited module")
        stopped(sample, tmp_path, before=17)
    lines: list[str] = []
    executor = StoppingExecutor()
    assert_same(sample(tmp_path, executor, log=lines.append), sample(None))
    assert executor.half_steps == HALF_STEPS
    state = tmp_path / "state.safetensors"
    assert lines[0] == f"Not going on from {state}: the code or torch was another."
