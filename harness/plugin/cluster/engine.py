"""The engine, dask.distributed: imported when it is used, and set so that it opens no port of which nobody knows."""

from __future__ import annotations

from types import ModuleType
from typing import Any

SLOT = "SLOT"
# A page of the engine's that nobody needs would listen everywhere without TLS: only this host reaches it here.
LOCAL_PAGE = "127.0.0.1:0"
_SETTINGS: dict[str, Any] = {
    "logging": {"distributed": "critical", "tornado": "critical"},
    # A scenario that its host has died of is repeated by the run, which counts; the engine repeats nothing.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.events-cleanup-delay": "1s",
    # Of what a run tells the scheduler keeps next to nothing.
    "distributed.admin.low-level-log-length": 10,
    # Its watching of itself took twice as much of a processor as its work.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "30s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
    # What a host's programs take is not the engine's to judge: machines are reserved room for elsewhere.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.comm.timeouts.tcp": "30s",
}


def engine() -> ModuleType:
    """Return the module ``distributed``, set as every process of a cluster needs it.

    Raises:
        ModuleNotFoundError: the extra ``cluster`` is not installed.
    """
    import dask

    dask.config.set(_SETTINGS)
    import distributed

    return distributed
