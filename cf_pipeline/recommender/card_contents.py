"""Tables and pictures of the model card, from what was evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cf_pipeline.recommender import plots, ranking_plots
from cf_pipeline.recommender.model_card import Picture, Table
from cf_pipeline.recommender.rating_scale import STARS, RatingScale
from cf_pipeline.recommender.recommendations import lists_of_each_movie

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cf_pipeline.recommender.serving import Recommender

EXAMPLES = 3  # movies
ROWS = 5
# The figures of a RankingReport that are shown, and what people call them.
FIGURES = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "recall@10",
    "precision_at_10": "precision@10",
    "map_at_100": "MAP@100",
    "mrr_at_100": "MRR@100",
    "coverage": "coverage",
    "novelty": "novelty, bits",
    "popularity_bias": "popularity bias",
}


def scale_of(evaluation: Mapping[str, Any]) -> RatingScale:
    """Return the rating scale of what was evaluated; what was before this was told is of stars."""
    return RatingScale(*evaluation.get("rating_scale", STARS))


def rating_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Return the tables of predicted ratings; `evaluation` is what evaluation_metrics wrote.

    There are none where all ratings are alike; so it is with the pictures.
    """
    if scale_of(evaluation).is_constant:
        return []
    model = {"rmse": evaluation["rmse"], "mae": evaluation["mae"]}
    methods = {"factor_model": model, **evaluation["baselines"]}
    compared = [
        {"method": name.replace("_", " "), "RMSE": of["rmse"], "MAE": of["mae"]}
        for name, of in sorted(methods.items(), key=lambda method: method[1]["rmse"])
    ]
    tables = [
        Table("Beside simple predictors", compared),
        Table(
            "By how many training ratings the user has",
            [
                {"training ratings": group, "test ratings": of["count"], "RMSE": of["rmse"]}
                for group, of in evaluation["by_user_training_ratings"].items()
                if of["count"]
            ],
        ),
    ]
    if posterior := evaluation.get("posterior"):
        coverage = [
            {"interval": nominal, "share of test ratings inside": share}
            for nominal, share in posterior["coverage"].items()
        ]
        tables.append(Table("Whether intervals hold what they promise", coverage))
    return tables


def ranking_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Return the tables of lists; none where no list could be judged."""
    tables = []
    for counted, caption in (("all", "all that was rated"), ("liked", "what was liked")):
        rows = [
            {"ordered by": name.replace("_", " ")}
            | {shown: of[counted][figure] for figure, shown in FIGURES.items()}
            for name, of in evaluation["ranking"].items()
            if of[counted]
        ]
        if rows:
            tables.append(Table(f"Counting {caption}", rows))
    return tables


def example_tables(recommender: Recommender) -> list[Table]:
    """Return, for some of the most rated movies, what to watch who likes it, and what is like it.

    They are nobody's lists: a card is sent around, and what a user rated is theirs.
    """
    most_rated = recommender.counts.argsort(descending=True, stable=True)[:EXAMPLES].tolist()
    tables = []
    for title in [recommender.titles[movie] for movie in most_rated if movie]:
        scale = recommender.model.rating.rating_scale
        listed = recommender.recommend({title: scale.high}, ROWS)
        words, columns = f"gave {title} the highest rating", ["title", "predicted_rating"]
        if scale.is_constant:
            words, columns = f"watched {title}", ["title", "score"]
        shown = listed[columns].to_dict("records")
        tables.append(Table(f"For somebody who {words}", _rows(shown)))
        similar = recommender.similar(title, ROWS)[["title", "cosine", "ratings"]]
        tables.append(Table(f"Most like {title}", _rows(similar.to_dict("records"))))
    return [table for table in tables if table.rows]


def rating_pictures(
    evaluation: Mapping[str, Any], curve: Sequence[Mapping[str, float | None]]
) -> list[Picture]:
    """Return the pictures of predicted ratings; `curve` is the factor model's learning curve."""
    if scale_of(evaluation).is_constant:
        return []
    baselines = {
        name: of["rmse"] for name, of in evaluation["baselines"].items() if of["rmse"] is not None
    }
    pictures = [
        Picture(
            "RMSE of the model and of simple predictors",
            plots.rmse_beside_baselines(evaluation["rmse"], baselines),
        ),
        Picture("RMSE on rows set aside, as the fit went on", plots.learning_curve(curve)),
    ]
    if posterior := evaluation.get("posterior"):
        pictures += [
            Picture(
                "How often what was given a probability came true",
                plots.calibration(posterior["calibration"]),
            ),
            Picture(
                "Errors where larger or smaller ones were expected",
                plots.rmse_by_uncertainty(posterior["by_uncertainty"]),
            ),
        ]
    return pictures


def ranking_pictures(
    evaluation: Mapping[str, Any],
    weights: Sequence[Mapping[str, float]],
    recommender: Recommender,
    recommendations: Path,
) -> list[Picture]:
    """Return the pictures of lists; `weights` are those that were tried for the predicted rating.

    `recommendations` is the parquet file of everybody's lists.
    """
    ndcg = {
        name: of["all"]["ndcg_at_10"] for name, of in evaluation["ranking"].items() if of["all"]
    }
    pictures = []
    if ndcg:
        png = ranking_plots.ranking_beside_baselines(ndcg)
        pictures.append(Picture("NDCG@10 of lists by different orders", png))
    if len(weights) > 1:
        png = ranking_plots.ndcg_by_weight(weights)
        caption = "NDCG@10 on rows set aside, by the weight of the predicted rating"
        pictures.append(Picture(caption, png))
    listed = lists_of_each_movie(recommendations, recommender)
    if listed.any():
        png = ranking_plots.coverage(recommender.counts[1:].numpy(), listed)
        pictures.append(Picture("Which movies the lists of everybody reach", png))
    return pictures


def _rows(records: Sequence[Mapping[Any, object]]) -> list[dict[str, object]]:
    return [{str(name): value for name, value in record.items()} for record in records]
