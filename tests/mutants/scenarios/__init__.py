"""Mutants that scenarios have to kill on virtual machines; ``nox -s mutants -- scenarios [scenario...]`` runs them."""
