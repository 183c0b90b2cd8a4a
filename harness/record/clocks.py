"""Events of several clocks in one log: what of an event is a time, and how it is moved."""

from __future__ import annotations

from dataclasses import replace

from harness.record.events import Event

# Fields of a probe's event that are times of the run's clock, beside ``t``.
_TIMES = ("started", "ended", "first_loss", "last_loss")


def moved(event: Event, by: float) -> Event:
    """Return an event as it reads on a clock that began so many seconds earlier."""
    fields = dict(event.fields)
    if event.kind == "probe":
        fields |= {name: fields[name] + by for name in _TIMES if fields.get(name) is not None}
        fields["gaps"] = [[start + by, end + by] for start, end in fields.get("gaps", ())]
    return replace(event, t=round(event.t + by, 6), fields=fields)
