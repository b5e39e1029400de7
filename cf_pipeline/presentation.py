"""What the UI says of assets beside what each says itself: whom to ask, and what to read.

Of a result nothing depends on it: no asset imports this.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

# Whom to ask: a team, or an e-mail address. Of groups that are not here, it is the RECOMMENDER.
RECOMMENDER = "team:recommender"
OWNERS = {"data": "team:data"}
# Selected by `tag:fits=model`: what takes the time, and a GPU where there is one.
FITS = {"factor_model", "ranking_model", "cross_validation", "served_model"}
LINKS: Mapping[str, Mapping[str, str]] = {
    "movielens_archive": {
        "MovieLens 100k, the default": "https://grouplens.org/datasets/movielens/100k/",
        "paper: The MovieLens Datasets": "https://doi.org/10.1145/2827872",
    },
    "factor_model": {
        "lesson: Collaborative Filtering Deep Dive": "https://github.com/fastai/fastbook/blob/master/08_collab.ipynb",
        "paper: Bayesian Probabilistic Matrix Factorization": "https://doi.org/10.1145/1390156.1390267",
        "paper: Macau, the feature prior": "https://arxiv.org/abs/1509.04610",
    },
    "ranking_model": {
        "paper: Collaborative Filtering for Implicit Feedback": "https://doi.org/10.1109/ICDM.2008.22",
        "paper: Revisiting iALS": "https://doi.org/10.1145/3523227.3548486",
    },
    "model_card": {"paper: Model Cards": "https://doi.org/10.1145/3287560.3287596"},
}


def presented(assets: Sequence[dg.AssetsDefinition]) -> Sequence[dg.AssetsDefinition]:
    """Return the assets with their owners, tags and links."""

    def with_presentation(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        links = {of: dg.MetadataValue.url(to) for of, to in LINKS.get(name, {}).items()}
        return spec.replace_attributes(
            owners=[OWNERS.get(spec.group_name or "", RECOMMENDER)],
            tags={**spec.tags, **({"fits": "model"} if name in FITS else {})},
            metadata={**spec.metadata, **links},
        )

    return dg.map_asset_specs(with_presentation, assets)
