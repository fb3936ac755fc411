"""The runner: Dask clusters, the task of a worker, waiting, budgets, resuming and draining."""
