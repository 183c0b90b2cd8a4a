"""Jobs: calls that are answered at once with an id, carried out by workers, and asked for until they end."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

from bundle.errors import SysvmError
from harness.management.api.limits import ApiLimits
from harness.management.api.problems import ApiError, of_job, unexpected
from harness.management.server import Tell
from harness.record.events import Emitter

IN_PROGRESS, SUCCEEDED, FAILED = 0, 1, 2
RESTARTED = "job cancelled because of management server restart: it was in progress when the server ended"
# The phases of a job that are remembered: a VPC with many tiers has some for each.
_PHASES = 200
_CANCELLED = "Job is cancelled as it has been blocking others for too long"

Work: TypeAlias = Callable[[Tell], Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        id: what clients ask for.
        command: name of the call, such as ``patchSystemVm``.
        java: class that CloudStack has for the call.
        account: who called.
        created: when, seconds since 1970.
        target: UUID of what the call is about.
        instance_type: kind of that, where CloudStack says one.
        status: 0 in progress, 1 succeeded, 2 failed.
        code: 0, or the error code.
        result: what it ended with; a text for a job that was cancelled.
        progress: what it does at the moment, for people.
        began: when a worker took it up.
        completed: when it ended.
        phases: what it did so far: when each began, seconds since 1970, and what it was.
    """

    id: str
    command: str
    java: str
    account: str
    created: float
    target: str = ""
    instance_type: str = ""
    status: int = IN_PROGRESS
    code: int = 0
    result: Mapping[str, Any] | str | None = None
    progress: str = "waiting for a worker"
    began: float | None = None
    completed: float | None = None
    phases: tuple[tuple[float, str], ...] = ()


@dataclass
class Jobs:
    """The jobs of a server.

    Attributes:
        limits: bounds and times.
        journal: is told of the begin and the end of each job, so that the next start knows what was under way.
    """

    limits: ApiLimits
    journal: Emitter
    _rows: dict[str, Job] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Hire the workers."""
        self._pool = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="job")

    def accept(self, job: Job) -> None:
        """Take up a job, which is in progress from now on.

        Raises:
            ApiError: too many jobs are unfinished, or the id is taken.
        """
        with self._lock:
            self._forget()
            if sum(row.status == IN_PROGRESS for row in self._rows.values()) >= self.limits.jobs:
                raise ApiError(503, "too many jobs are in progress; try again later")
            if job.id in self._rows:
                raise ApiError(431, f"there is a job {job.id} already", 4350)
            self.journal.emit("api_job", row=asdict(job))
            self._rows[job.id] = job

    def start(self, job_id: str, work: Work) -> None:
        """Have the work of a job done by a worker."""
        self._pool.submit(self._carry_out, job_id, work)

    def _carry_out(self, job_id: str, work: Work) -> None:
        self._change(job_id, began=time.time())
        self._tell(job_id, "started")
        try:
            result: Mapping[str, Any] = work(lambda text: self._tell(job_id, text))
        except SysvmError as error:
            self._fail(job_id, of_job(error))
        except ApiError as error:
            self._fail(job_id, error)
        except Exception as error:  # a defect must end the job, not hide it
            self.journal.emit("api_defect", job=job_id, error="".join(traceback.format_exception(error)))
            self._fail(job_id, unexpected())
        else:
            self._end(job_id, SUCCEEDED, 0, result)

    def _fail(self, job_id: str, error: ApiError) -> None:
        self._end(job_id, FAILED, error.status, {"errorcode": error.status, "errortext": error.text})

    def _end(self, job_id: str, status: int, code: int, result: Mapping[str, Any] | str) -> None:
        with self._lock:
            job = self._rows.get(job_id)
            if job is None or job.status != IN_PROGRESS:
                return  # it was cancelled, and that stands
            ended = replace(
                job, status=status, code=code, result=result, completed=time.time(), progress="ended"
            )
            self.journal.emit("api_job", row=asdict(ended))
            self._rows[job_id] = ended

    def _tell(self, job_id: str, text: str) -> None:
        """Remember what a job does from now on; the same again is nothing new."""
        job = self._rows.get(job_id)
        if job is not None and job.progress != text:
            self._change(job_id, progress=text, phases=(*job.phases, (time.time(), text))[-_PHASES:])

    def _change(self, job_id: str, **fields: Any) -> None:
        with self._lock:
            job = self._rows.get(job_id)
            if job is not None and job.status == IN_PROGRESS:
                self._rows[job_id] = replace(job, **fields)

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None for one that was never there or is forgotten."""
        self._cancel()
        with self._lock:
            self._forget()
            return self._rows.get(job_id)

    def unfinished(self) -> list[Job]:
        """Return the jobs in progress, the oldest first."""
        self._cancel()
        with self._lock:
            return [job for job in self._rows.values() if job.status == IN_PROGRESS]

    def _cancel(self) -> None:
        """ApiCall jobs failed that take too long, as CloudStack does: code 0, a text, and the work goes on."""
        if self.limits.job_cancel is None:
            return
        now = time.time()
        with self._lock:
            late = [
                job.id
                for job in self._rows.values()
                if job.status == IN_PROGRESS and now - (job.began or now) > self.limits.job_cancel
            ]
        for job_id in late:
            self._end(job_id, FAILED, 0, _CANCELLED)

    def _forget(self) -> None:
        oldest = time.time() - self.limits.job_expiry
        for job in list(self._rows.values()):
            if job.completed is not None and job.completed < oldest:
                del self._rows[job.id]

    def remember(self, job: Job) -> None:
        """Take a job of an earlier server; one that was in progress has failed, and the journal is told."""
        if job.status == IN_PROGRESS:
            job = replace(
                job, status=FAILED, code=530, result=RESTARTED, completed=time.time(), progress="ended"
            )
            self.journal.emit("api_job", row=asdict(job))
        with self._lock:
            self._rows[job.id] = job

    def close(self) -> None:
        """Take up no further job, drop those that no worker has begun, and wait for the others."""
        self._pool.shutdown(cancel_futures=True)


def new_job(command: str, java: str, account: str, chosen: str, target: str, instance_type: str) -> Job:
    """Return a job that is about to be submitted; its id is the one that the caller has chosen, if any."""
    return Job(chosen or str(uuid.uuid4()), command, java, account, time.time(), target, instance_type)
