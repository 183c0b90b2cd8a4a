"""What holds for all tests: hypothesis measures no time, which is the host's and no fault of a test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("any-host", deadline=None)
settings.load_profile("any-host")
