"""Depots: places outside of the cache that keep images and golden snapshots for other hosts."""
