"""The settings of a fit: what may be chosen, the defaults, and what they mean.

They stand apart from the code that uses them so that Dagster can show them without importing torch.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat

VALIDATION_FRACTION = 0.1  # of the training part, by default
WITH_FOLDS = "ml-100k"  # the only data set that came with official folds
YRange = Annotated[list[float], Field(min_length=2, max_length=2)]


class MemorySettings(BaseModel):
    """How much memory fits take, which decides nothing of what comes out: no dump has it."""

    memory_gib: FiniteFloat = Field(
        4.0,
        ge=0,
        exclude=True,
        description="GiB that sorted copies of the ratings may take; if they need more, 16 bytes a "
        "rating or 24 with the ordinal likelihood, they stand in temporary files, in the folder "
        "that TMPDIR names, which saves memory where it is on a disk. For fits in the run's own "
        "process; a cluster has a budget of its own.",
    )


class FitSettings(MemorySettings):
    """Settings that decide nothing of what comes out of a fit: no dump of settings has them."""

    checkpoint_seconds: FiniteFloat = Field(
        60.0,
        gt=0,
        exclude=True,
        description="How often a fit writes down where it stands, to go on from there if its "
        "process dies. One that ends sooner, or goes by gradient descent, writes nothing.",
    )


class BlockSettings(FitSettings):
    """Settings of a fit that works on its ratings by blocks."""

    block_ratings: int = Field(
        5_000_000,
        gt=0,
        description="Ratings of the users, or of the movies, that a task works on at a time. Each "
        "such block has random numbers of its own, so this decides what is drawn; fewer keep more "
        "workers busy, but cost more in all.",
    )


class ModelSettings(MemorySettings):
    """Settings of the factor model, however it is fitted."""

    n_factors: int = Field(20, gt=0, description="Factors of each user and movie.")
    y_range: YRange | None = Field(
        None,
        description="Lowest and highest prediction; a little wider than the rating scale, because "
        "the sigmoid never reaches its ends. By default a quarter of the scale below its least "
        "rating and an eighth above its greatest: 0 to 5.5 of 1 to 5.",
    )
    bias: bool = Field(True, description="Give every user and movie a bias.")
    feature_rank: int = Field(
        64, ge=0, description="Rank of the features that factors are drawn to; 0: no features."
    )
    seed: int = Field(0, ge=0, description="Of all that is random in a fit.")


class GradientDescentSettings(ModelSettings):
    """Settings of `gradient_descent.fit`; the defaults are the recipe with the feature prior."""

    loss: Literal["mse", "l1"] = Field("mse", description="Squared or absolute error.")
    epochs: int = Field(8, gt=0, description="Passes over the training ratings.")
    batch_size: int = Field(1000, gt=0, description="Ratings of a minibatch.")
    learning_rate: FiniteFloat = Field(0.02, gt=0, description="The one-cycle schedule's highest.")
    weight_decay: FiniteFloat = Field(1.0, ge=0, description="AdamW's decoupled weight decay.")
    table_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the tables, and of what the optimizer keeps of them, while they are "
        "fitted: 'bfloat16' takes half of the memory, as a GPU may lack it.",
    )


class GibbsSettings(ModelSettings, BlockSettings):
    """Settings of `gibbs.fit`, whose posterior is distilled into a model of `n_factors`."""

    likelihood: Literal["gaussian", "ordinal"] = Field(
        "gaussian",
        description="Ratings as numbers with normal noise, or as ordered levels: slower, with "
        "better probabilities of each level.",
    )
    sampled_factors: int = Field(16, gt=0, description="Factors that are sampled.")
    sweeps: int = Field(150, gt=1, description="Draws of every unknown.")
    burn_in: int = Field(
        25, ge=0, description="First sweeps, which are not samples yet; fewer than all."
    )
    samples: int = Field(
        125, gt=0, description="Samples that are averaged: sweeps after the burn-in, evenly spaced."
    )
    kept_samples: int = Field(
        32, gt=0, description="Samples that are kept beside the model, for its uncertainty."
    )


class FactorModelSettings(GradientDescentSettings, GibbsSettings):
    """Settings of the factor model by either method; each reads its own."""

    method: Literal["gibbs", "gradient_descent"] = Field(
        "gibbs",
        description="How the factors are found: 'gibbs', the most accurate, samples them and "
        "distils the posterior's mean; 'gradient_descent' is faster, and the lesson's way.",
    )


class RankingSettings(BlockSettings):
    """Settings of `implicit_als.fit`.

    The defaults were chosen on rows that are in neither ua's nor ub's test part; some of them are
    in those of u1 to u5.
    """

    n_factors: int = Field(32, gt=0, description="Factors that tell what people choose to watch.")
    confidence: FiniteFloat = Field(
        1.0, gt=0, description="How much more a movie counts that was rated than one that was not."
    )
    regularization: FiniteFloat = Field(
        2.0, gt=0, description="Pull of factors to what features say, times √(ratings + 1)."
    )
    feature_regularization: FiniteFloat = Field(
        1000.0, gt=0, description="Pull to zero of what features say."
    )
    feature_rank: int = Field(
        64, ge=0, description="Rank of the features that factors are drawn to; 0: no features."
    )
    iterations: int = Field(8, gt=0, description="Times that users and movies are fitted in turn.")
    seed: int = Field(0, ge=0, description="Of the factors that the fit starts from.")


# Every rule of the gate, in the order in which findings come, and what it asks for.
GATE_RULES: Mapping[str, str] = {
    "was_not_rolled_back": "Nobody rolled back from this very model: only somebody may promote it "
    "again.",
    "ratings_are_sound": "The ratings that the challenger learned from hold to every rule that "
    "ratings must hold to.",
    "new_ratings_are_plausible": "Ratings that are new to the champion go along with what it "
    "predicted: shuffled or made-up ratings do not.",
    "challenger_beats_baselines": "On held-out ratings the challenger's RMSE is surely below that "
    "of every simple predictor, unless all ratings are alike: then there are none to predict.",
    "lists_beat_popularity": "The challenger's lists find surely more of what users went on to "
    "rate than the most rated movies do, by NDCG@10.",
    "intervals_hold": "The challenger's intervals of 90 % hold about 90 % of held-out ratings.",
    "challenger_beats_champion": "On ratings that neither has seen, the challenger's RMSE is below "
    "the champion's, and surely not above it by the margin. Where all ratings are alike, its "
    "NDCG@10 is above the champion's, and surely not below it by the margin of that.",
    "lists_are_no_worse": "On the same ratings the challenger's lists are not worse than the "
    "champion's by more than the margin, by NDCG@10.",
}


class GateSettings(BaseModel):
    """What a newly fitted model, the challenger, must show before it replaces the champion."""

    margin: FiniteFloat = Field(
        0.01,
        description="Stars (of 1 to 5; of another rating scale, quarters of it) by which the "
        "challenger's RMSE may be above the champion's at the upper end of the confidence interval "
        "of the difference; its estimate must be below 0. Below 0: how much better it must surely "
        "be.",
    )
    ndcg_margin: FiniteFloat = Field(
        0.01,
        ge=0,
        description="How far the NDCG@10 of the challenger's lists may be below the champion's.",
    )
    confidence: FiniteFloat = Field(
        0.95, gt=0.5, lt=1, description="One-sided confidence of every comparison."
    )
    least_rows: int = Field(
        500, gt=0, description="Held-out ratings that models must be compared on, at the least."
    )
    coverage_range: YRange = Field(
        [0.84, 0.96],
        description="Share of held-out ratings that may lie in the intervals of 90 %. Of people's "
        "latest ratings in MovieLens 100k it is 85 to 88 %, of random ones 90 %. A model without "
        "intervals promises nothing.",
    )
    least_correlation: FiniteFloat = Field(
        0.2,
        gt=-1,
        lt=1,
        description="Correlation of new ratings with what the champion predicted, below which they "
        "must not surely be. Of 30 honest slices of MovieLens 100k each had .32 to .56, and "
        "shuffled .08 at most.",
    )
    resamples: int = Field(2000, ge=100, description="Of the bootstrap.")
    seed: int = Field(0, ge=0, description="Of the bootstrap.")


# The lesson's own way: no features, small batches.
PLAIN = GradientDescentSettings(
    n_factors=50,
    feature_rank=0,
    epochs=5,
    batch_size=64,
    learning_rate=5e-3,
    weight_decay=0.1,
)
