"""What a source tree holds, as the items of the two archives."""
