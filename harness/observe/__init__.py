"""Views of a guest, taken in one round trip: one module a subject, each with its commands and their parser."""
