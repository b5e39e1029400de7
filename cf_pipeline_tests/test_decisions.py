"""The log of decisions points to the champion: what is lost, altered or out of date is none, and
somebody can always decide."""

import json
import shutil
from pathlib import Path

import pytest

from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.champion import Champions
from cf_pipeline.decisions import (
    IDENTITY,
    Action,
    Decision,
    Version,
    champion_of,
    is_barred,
    lineage,
    next_decision,
    of_dataset,
    opponent_of,
)
from cf_pipeline.notebook import load_recommender
from cf_pipeline.store_layout import ArtifactError
from cf_pipeline_tests.project import REPOSITORY, WORSE, Project
from cf_pipeline_tests.test_caching import edited, outcome
from cf_pipeline_tests.test_champion import decide, decisions, shown


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "There is no other champion there"),
        (1, "There is no other champion there"),
        (9, "no decision 9"),
    ],
)
def test_there_is_nothing_to_roll_back_to(project, number, said):
    run = decide(project, "roll_back", decision=number, reason="I want to.")
    assert run.returncode == 1
    assert said in run.output
    assert len(decisions(project)) == 1


def lose_the_champion(project: Project) -> str:
    champion = decisions(project)[-1].champion
    assert champion is not None
    shutil.rmtree(project.artifacts / "champion_model" / champion.key)
    return champion.key


def test_a_champion_that_is_lost_is_kept_again_when_its_model_comes(project):
    lose_the_champion(project)
    assert project.cache() == outcome({"champion_model"})


def test_with_the_champion_lost_only_somebody_can_promote_another(worse):
    key = lose_the_champion(worse)
    shutil.rmtree(worse.artifacts / "challenger")
    for select in ("challenger", "champion_model"):
        run = worse.materialize(select)
        assert run.returncode == 1
        assert f"champion_model {key} is not in the artifact store" in run.output
        assert "promote a model by hand" in run.output
    run = decide(worse, "promote_by_hand", reason="The champion is lost.")
    assert run.returncode == 0, run.output
    last = decisions(worse)[-1]
    assert last.action == "promoted by hand"
    assert key in last.findings[0]["why"]
    # From then on all is as ever.
    assert worse.cache(config=WORSE)["champion_model"] == "hit"


def alter(path: Path) -> None:
    record = json.loads(path.read_text())
    record["champion"]["key"] = "0" * 32
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(("spoil", "said"), [(alter, "altered"), (Path.unlink, "are missing")])
def test_decisions_that_were_altered_or_taken_away_are_no_pointer(worse, spoil, said):
    worse.cache("champion_model")  # which is refused, in a second decision
    spoil(worse.artifacts / "champion_model" / "records" / "000001.json")
    run = worse.materialize("champion_model")
    assert run.returncode == 1
    assert said in run.output
    assert "from a backup" in run.output


def test_a_remote_without_the_decisions_is_refused(worse, tmp_path):
    remote = worse.with_variables({"CF_PIPELINE_REMOTE": f"file://{tmp_path}/remote"})
    run = remote.materialize("champion_model")
    assert run.returncode == 1
    assert "has no decisions" in run.output
    shutil.copytree(
        worse.artifacts / "champion_model" / "records",
        tmp_path / "remote" / "records" / "champion_model",
    )
    assert remote.cache("champion_model") == {"champion_model": "hit"}


def test_code_that_was_refused_does_not_fit_what_is_served(worse):
    """It was edited for the worse: the gate keeps the champion, and nothing fits it anew by it."""
    before = shown(worse)
    edited(worse, "recommender/gibbs.py", "class Sampler", "_UNUSED = 1\n\n\nclass Sampler")
    made = worse.cache("champion_model*")
    assert made["served_model"] == "hit"
    assert shown(worse) == before
    shutil.rmtree(worse.artifacts / "served_model")
    run = worse.materialize("served_model")
    assert run.returncode == 1
    assert "was never judged" in run.output
    # The same code again: it may.
    worse.package = REPOSITORY
    assert worse.cache("served_model") == {"served_model": "miss"}
    assert shown(worse) == before


def test_what_is_not_of_the_champion_any_more_is_not_shown(worse, monkeypatch):
    """Somebody went back while a run went on, which goes on to nothing."""
    assert decide(worse, "promote_by_hand", reason="An experiment.").returncode == 0
    champions = Champions(ArtifactStore(worse.artifacts), print)
    now = champions.decisions()
    back = next_decision(
        now,
        action="rolled back",
        reason="People complain.",
        run_id="another",
        champion=now[0].champion,
        challenger=now[-1].challenger,
    )
    assert champions.decide(back)
    monkeypatch.chdir(worse.directory)
    for asset in ("served_model", "recommendations"):
        run = worse.materialize(asset)
        assert run.returncode == 1
        assert "is not of the champion" in run.output
    with pytest.raises(ArtifactError, match="is not of the champion"):
        load_recommender()


MOVIES, BOOKS = "ml-100k", "custom"


def version(of: str) -> Version:
    """A model; that of books, if it is in capitals."""
    made_from = dict.fromkeys(("ratings", *IDENTITY), of)
    dataset = BOOKS if of.isupper() else MOVIES
    return Version(key=of, data_version=of, made_from=made_from, made_by={}, dataset=dataset)


def log_of(*actions: tuple[Action, str]) -> list[Decision]:
    """Decisions, each by its action and the champion that it leaves."""
    log: list[Decision] = []
    for action, champion in actions:
        before = log[-1].champion if log else None
        judged = before if action == "rolled back" and before else version(champion)
        log.append(
            next_decision(
                log,
                action=action,
                reason="",
                run_id="",
                champion=version(champion),
                challenger=judged.made_from,
            )
        )
    return log


def test_what_a_champion_was_judged_against_stays_so():
    log = log_of(("promoted", "a"), ("promoted", "b"), ("promoted by hand", "c"), ("promoted", "b"))
    opponent = opponent_of(log, version("b").made_from, MOVIES)
    assert opponent is not None
    assert opponent.key == "c"
    assert opponent_of(log_of(("promoted", "a")), version("a").made_from, MOVIES) is None
    back = log_of(("promoted", "a"), ("promoted", "b"), ("rolled back", "a"))
    assert opponent_of(back, version("a").made_from, MOVIES) is None
    assert opponent_of(back, version("b").made_from, MOVIES) == version("a")


def test_each_dataset_has_champions_of_its_own():
    log = log_of(("promoted", "a"), ("promoted", "b"), ("promoted", "A"))
    assert opponent_of(log, version("B").made_from, BOOKS) == version("A")
    assert opponent_of(log, version("A").made_from, BOOKS) is None
    assert opponent_of(log, version("c").made_from, MOVIES) == version("b")
    # Back at the first dataset its champion is judged as it was, and replaces none of its own.
    assert opponent_of(log, version("b").made_from, MOVIES) == version("a")
    again = [*log, *log_of(*[("promoted", of) for of in "abAb"])[-1:]]
    assert champion_of(again) == version("b")
    assert opponent_of(again, version("b").made_from, MOVIES) == version("a")
    assert [of.key for of in lineage(of_dataset(again, BOOKS))] == ["A"]


def test_decisions_of_before_there_were_datasets_are_of_movielens_100k():
    written = version("a").model_dump(exclude={"dataset"})
    assert Version.model_validate(written).dataset == MOVIES


def test_going_back_twice_leads_further_back():
    promoted: list[tuple[Action, str]] = [("promoted", of) for of in "abc"]
    assert [of.key for of in lineage(log_of(*promoted))] == ["a", "b", "c"]
    once = log_of(*promoted, ("rolled back", "b"))
    assert [of.key for of in lineage(once)] == ["a", "b"]
    assert is_barred(once, version("c").made_from)
    twice = log_of(*promoted, ("rolled back", "b"), ("rolled back", "a"))
    assert [of.key for of in lineage(twice)] == ["a"]
    barred = {of for of in "abc" if is_barred(twice, version(of).made_from)}
    assert barred == {"b", "c"}
    # Who takes one again, by whichever job, lifts its bar.
    for again in ("promoted by hand", "rolled back"):
        taken: tuple[Action, str] = (again, "c")
        assert not is_barred([*twice, *log_of(*promoted, taken)[-1:]], version("c").made_from)
