"""A run on many hosts: seats for scenarios that hosts offer through a scheduler of dask.distributed.

The run's own process collects, deals out and records; it is the only one that knows the run. A host runs seats: pytest
sessions that hold one cell's golden snapshot and make the scenarios that they are given, one by one. In between is a
scheduler, which knows who is there, whom has what place, and who has gone.
"""
