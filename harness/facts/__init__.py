"""What can be observed in a guest: one module a subject, each with its commands and their parser."""
