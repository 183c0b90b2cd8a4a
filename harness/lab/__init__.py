"""One run: from a wish to a judged copy of a golden snapshot."""
