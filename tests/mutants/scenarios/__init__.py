"""Mutants that scenarios have to kill on virtual machines; ``nox -s mutants -- vm [scenario...]`` runs them."""
