"""The model card: one page for people who have to decide whether to use the models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.factor_model import pictures_of
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import Champions
from cf_pipeline.code_version import code_version
from cf_pipeline.training_part import TrainingPart

if TYPE_CHECKING:
    import pandas as pd

CAPTIONS = {
    "factor_map": "Movies by the two directions in which their factors differ most: what the same "
    "people like is near each other",
    "liked_at_equal_popularity": "Movies that are liked more or less than others, by how often "
    "they were rated",
}


@dg.asset(
    group_name="recommendations",
    kinds={"report"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def model_card(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    champion_model: Artifact,
    served_model: Artifact,
    recommendations: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """One self-contained HTML page on the champion: data, method, figures, limits, intended use.

    Its figures are those of the champion on its test part; its lists are of the served model.

    Open `model_card.html` in a browser, or send it to somebody: it needs nothing beside it.
    """
    champions = Champions(artifacts.store, context.log.info)
    champions.refuse_other("model_card", champion_model.data_version)
    inputs = [champion_model, served_model, recommendations]

    def build(directory: Path) -> Metadata:
        import pandas as pd

        from cf_pipeline.recommender import card_contents
        from cf_pipeline.recommender.encoding import encoded
        from cf_pipeline.recommender.minibatches import EncodedRatings
        from cf_pipeline.recommender.model_card import ModelCard, Picture
        from cf_pipeline.recommender.serving import Recommender
        from cf_pipeline.recommender.split_files import read_part, read_settings
        from cf_pipeline.recommender.table_files import SPLIT, table_files

        folder = champion_model.verified()
        judged = Recommender.load(folder)
        side_tables = (
            pd.read_parquet(folder / "users.parquet"),
            pd.read_parquet(folder / "movies.parquet"),
        )
        split = table_files(folder, SPLIT)
        known = judged.users, judged.movies
        ratings = EncodedRatings.concatenate(encoded(split, *known, "train"))
        part = TrainingPart.of(ratings, known, side_tables)
        timestamps = read_part(split, "train", ["timestamp"])["timestamp"].dropna()
        evaluation = _json(folder, "evaluation_metrics.json")
        origin = _json(folder, "origin.json")
        recommender = Recommender.load(served_model.verified())
        learnt, scale = pictures_of(judged.model.rating, part), judged.model.rating.rating_scale
        ranked = evaluation["ranking"]["ranking_model"]["all"] or {}
        card = ModelCard(
            summary={
                **({} if scale.is_constant else {"RMSE": evaluation["rmse"]}),
                **({} if scale.is_constant else {"MAE": evaluation["mae"]}),
                "NDCG@10 of lists": ranked.get("ndcg_at_10"),
                "recall@10 of lists": ranked.get("recall_at_10"),
            },
            data={
                "ratings": origin["ratings"],
                **{f"split: {name}": value for name, value in read_settings(split).items()},
                "training_ratings": len(part.ratings.ratings),
                "test_ratings": evaluation["n_test"],
                "test_ratings_of_unknown_users_or_movies": evaluation["cold"]["count"],
                "users": len(part.users) - 1,
                "movies": len(part.movies) - 1,
                "lowest_training_rating": scale.low,
                "highest_training_rating": scale.high,
                "first_training_rating": _date(timestamps.min()),
                "last_training_rating": _date(timestamps.max()),
            },
            scale=scale,
            bias=judged.model.rating.bias,
            settings={
                "factor_model": _json(folder, "settings.json")
                | {"y_range": judged.model.rating.y_range},
                "ranking_model": judged.model.settings.model_dump()
                | {"weight of the predicted rating": judged.model.weight},
            },
            rating=card_contents.rating_tables(evaluation),
            ranking=card_contents.ranking_tables(evaluation),
            examples=card_contents.example_tables(recommender),
            pictures={
                "learnt": [Picture(CAPTIONS[name], png) for name, png in learnt.items()],
                "rating": card_contents.rating_pictures(
                    evaluation, _json(folder, "learning_curve.json")
                ),
                "ranking": card_contents.ranking_pictures(
                    evaluation,
                    _json(folder, "weights.json"),
                    recommender,
                    recommendations.path("recommendations.parquet"),
                ),
            },
            licence=origin["licence"],
            citation=origin["citation"],
            made_from={artifact.asset: artifact.data_version for artifact in inputs},
        )
        page = card.html()
        path = directory / "model_card.html"
        path.write_text(page, encoding="utf-8")
        return {"bytes": path.stat().st_size, "pictures": page.count("<img ")}

    return artifacts.materialize(context, build, inputs)


def _date(time: "pd.Timestamp") -> object:
    """Return the day of a time; of NaT, where ratings have no timestamps, that it is not known."""
    import pandas as pd

    return "not known" if pd.isna(time) else time.date()


def _json(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())
