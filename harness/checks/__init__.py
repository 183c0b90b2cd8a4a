"""The checks that judge a live patch: each one small, named, and with a reason that a person understands."""

from __future__ import annotations

from harness.checks.case import Case, Expectation
from harness.checks.registry import Check, Outcome, checks, excused, failed, judge, record

__all__ = ["Case", "Check", "Expectation", "Outcome", "checks", "excused", "failed", "judge", "record"]
