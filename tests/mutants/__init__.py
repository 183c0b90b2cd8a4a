"""Mutants: one-line faults that some test has to notice."""
