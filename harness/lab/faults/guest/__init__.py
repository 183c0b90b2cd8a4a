"""Programs that faults run inside a guest: Python 3.7 and its standard library, nothing else."""
