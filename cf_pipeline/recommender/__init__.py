"""The field's own code, in plain numpy, pandas, pyarrow and torch: usable from a notebook, without Dagster."""
