"""The one way into a guest: commands, files, and what a person sees of it."""
