"""The live patch of a whole cloud through its API: planned, in order, verified, resumable."""
