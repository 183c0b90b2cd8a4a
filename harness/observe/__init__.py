"""What can be seen of a guest, in one round trip: one module a subject, each with its commands and their parser."""
