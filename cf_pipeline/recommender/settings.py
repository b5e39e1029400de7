"""The settings of a fit: what may be chosen, the defaults, and what they mean.

They stand apart from the code that uses them so that Dagster can show them without importing torch.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat

VALIDATION_FRACTION = 0.1  # of the training part, by default
YRange = Annotated[list[float], Field(min_length=2, max_length=2)]


class ModelSettings(BaseModel):
    """Settings of the factor model, however it is fitted."""

    n_factors: int = Field(20, gt=0, description="Factors of each user and movie.")
    y_range: YRange = Field(
        [0.0, 5.5],
        description="Lowest and highest prediction; a little wider than the rating scale, because "
        "the sigmoid never reaches its ends.",
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


class GibbsSettings(ModelSettings):
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


class RankingSettings(BaseModel):
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


# The lesson's own way: no features, small batches.
PLAIN = GradientDescentSettings(
    n_factors=50,
    feature_rank=0,
    epochs=5,
    batch_size=64,
    learning_rate=5e-3,
    weight_decay=0.1,
)
