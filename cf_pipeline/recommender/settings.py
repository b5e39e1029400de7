"""The settings of a fit: what may be chosen, the defaults, and what they mean.

They stand apart from the code that uses them so that Dagster can show them without importing torch.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

YRange = Annotated[list[float], Field(min_length=2, max_length=2)]


class GradientDescentSettings(BaseModel):
    """Settings of `gradient_descent.fit`; the defaults are the recipe with the feature prior."""

    n_factors: int = Field(20, gt=0, description="Factors of each user and movie.")
    y_range: YRange = Field(
        [0.0, 5.5],
        description="Lowest and highest prediction; a little wider than the rating scale, because "
        "the sigmoid never reaches its ends.",
    )
    bias: bool = Field(True, description="Give every user and movie a bias.")
    loss: Literal["mse", "l1"] = Field("mse", description="Squared or absolute error.")
    feature_rank: int = Field(
        64,
        ge=0,
        description="Rank of the feature prior; 0: no prior, the plain model of the lesson.",
    )
    epochs: int = Field(8, gt=0, description="Passes over the training ratings.")
    batch_size: int = Field(1000, gt=0, description="Ratings of a minibatch.")
    learning_rate: float = Field(0.02, gt=0, description="The one-cycle schedule's highest.")
    weight_decay: float = Field(1.0, ge=0, description="AdamW's decoupled weight decay.")
    seed: int = Field(0, ge=0, description="Of the initial factors and the order of minibatches.")


# The lesson's own way: no features, small batches.
PLAIN = GradientDescentSettings(
    n_factors=50,
    feature_rank=0,
    epochs=5,
    batch_size=64,
    learning_rate=5e-3,
    weight_decay=0.1,
)
