"""A collaborative-filtering pipeline on Dagster: MovieLens in, an evaluated PyTorch factor model out."""
