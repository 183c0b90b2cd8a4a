"""Fixtures of the rollout's tests."""

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Spare the disk thousands of flushes in this process, and count them; commands that tests start flush as ever."""
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    return flushed
