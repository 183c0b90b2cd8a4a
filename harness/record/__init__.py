"""The record of a run: its event log, its results folder, its progress."""
