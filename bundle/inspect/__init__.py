"""A bundle proven, judged and compared."""
