"""Proof of what a bundle is, and who made it: manifest, sums, signatures, provenance, the rendered script."""
