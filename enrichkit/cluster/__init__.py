"""Many processes on one table: its parts are asked by the workers of a dask cluster, a store and an engine each."""
