"""Contents of a source tree, as the items of the two archives."""
