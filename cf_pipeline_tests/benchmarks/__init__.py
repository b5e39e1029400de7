"""What the project promises in figures, measured beside its peers in one run on one machine.

`pip install -e '.[bench]'` brings the peers; each module but `report` and `peers` is run as
`python -m cf_pipeline_tests.benchmarks.accuracy`.
"""
