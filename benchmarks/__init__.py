"""The benchmark: the load, the baselines, the rows, the report. `make bench` and `make profile` run it."""
