"""The server's API as CloudStack serves it: requests, signatures, sessions, roles, jobs, JSON and XML.

:class:`ApiService` is the whole of it without a socket; ``app`` puts it behind HTTP.
"""

from __future__ import annotations

from harness.management.api.accounts import Account, Accounts, uid
from harness.management.api.fleet import FixedFleet, Fleet
from harness.management.api.limits import ApiLimits
from harness.management.api.request import ApiRequest
from harness.management.api.service import ApiService

__all__ = ["Account", "Accounts", "ApiLimits", "ApiRequest", "ApiService", "FixedFleet", "Fleet", "uid"]
