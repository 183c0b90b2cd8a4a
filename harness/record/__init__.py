"""What a run learns and tells: its event log, its results folder, its progress."""
