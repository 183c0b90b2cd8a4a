"""The bounds and settings of the served API, in one place; each has a test that meets it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ApiLimits:
    """Bounds and settings of a server. Times are seconds, sizes bytes, unless said otherwise.

    Attributes:
        body: the largest body of a request; more is 413.
        query: the longest query string; more is 414.
        parameters: the most parameters of a request; more is 430.
        value: the most characters of one value; more is 431.
        connections: the most connections at once; further ones get 503.
        header_time: time for the head of a request to arrive; the connection is closed then.
        body_time: time for the body of a request to arrive; more is 408.
        page_size: the largest page of a list, and ``defaultuipagesize`` of the capabilities.
        sessions: the most sessions; the one that is idle longest ends for a new one.
        session_idle: time after which an idle session ends.
        sign_ins: the most failed sign-ins of an account within a minute; further ones are 531, right or wrong.
        expiry_ahead: how far ahead the expiry of a signature may lie, where time stamps are enforced.
        enforce_post: demand signature version 3, an expiry and POST, as ``enforce.post.requests.and.timestamps`` does.
        calls: the most calls of an account within ``calls_window``, as API throttling does; None is no bound.
        calls_window: see ``calls``.
        jobs: the most unfinished jobs; further ones are 503.
        workers: jobs that are carried out at once; the others wait, in progress.
        job_expiry: how long a finished job is remembered.
        job_cancel: time after which a job that is still in progress is called failed, though its work goes on; None is
            never.
        events: the most events and alerts that are remembered, each.
    """

    body: int = 256 << 10
    query: int = 64 << 10
    parameters: int = 200
    value: int = 4096
    connections: int = 128
    header_time: float = 10.0
    body_time: float = 10.0
    page_size: int = 500
    sessions: int = 200
    session_idle: float = 1800.0
    sign_ins: int = 10
    expiry_ahead: float = 900.0
    enforce_post: bool = False
    calls: int | None = None
    calls_window: float = 1.0
    jobs: int = 5000
    workers: int = 32
    job_expiry: float = 86400.0
    job_cancel: float | None = None
    events: int = 10000
