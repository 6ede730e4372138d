"""Which run trained which trial, and when, from the moments the ledger keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from hpo.storage.records import TrialRecord

MOST = 1_500
"""Bars a browser draws at once without a pause."""

PARENT, UNKNOWN, WAITING = "from the study it branched from", "a run not recorded", "waiting"

CLOCKS = (("seconds", 1.0, 300.0), ("minutes", 60.0, 18_000.0), ("hours", 3_600.0, 864_000.0), ("days", 86_400.0, 0.0))
"""Unit, its seconds, and the longest time that is told in it."""


class Placed(NamedTuple):
    """A trial of an arm of a study."""

    study: str
    arm: str
    title: str
    trial: TrialRecord


class Span(NamedTuple):
    """A trial between two moments, in seconds since the first."""

    begin: float
    end: float
    placed: Placed


def timeline(trials: Sequence[Placed], branched: Collection[str] = ()) -> dict[str, Any]:
    """`{"unit", "rows": [name], "marks": [{"row", "from", "to", "title", "arm", "number", "state", "count"}]}`.

    Which worker trained what is not recorded: a run has as many rows as it had trainings at once. A running trial ends
    at the last moment anything was seen of the study; one that no run has is waiting. Closed trials of no known run
    come, in the `branched` studies, from the study they branched from. Where there are more bars than a page shows, one
    stands for the `count` trials of a method and state in a stretch of time, as long as their share.
    """
    own = [p for p in trials if p.trial.origin is None]
    if not own:
        return {"unit": "seconds", "rows": [], "marks": []}
    start = min(p.trial.opened for p in own)
    last = max(p.trial.closed or p.trial.opened for p in own)
    by_lease: dict[int, list[Span]] = {}
    others: dict[str, list[Span]] = {PARENT: [], UNKNOWN: [], WAITING: []}
    for p in own:
        span = Span(_since(start, p.trial.opened), _since(start, p.trial.closed or last), p)
        if p.trial.lease is not None:
            by_lease.setdefault(p.trial.lease, []).append(span)
        else:
            others[WAITING if p.trial.closed is None else PARENT if p.study in branched else UNKNOWN].append(span)
    runs = sorted(by_lease.values(), key=lambda spans: min(s.begin for s in spans))
    named = {f"run {i + 1}": spans for i, spans in enumerate(runs)}
    waiting = {WAITING: others.pop(WAITING)}
    rows: list[list[Span]] = []
    names: list[str] = []
    for name, spans in (others | named | waiting).items():
        at_once = _at_once(spans)
        rows += at_once
        names += [_named(name, j + 1, len(at_once)) for j in range(len(at_once))]
    whole = max(max(s.end for row in rows for s in row), 1e-9)
    unit, seconds = next((name, size) for name, size, longest in CLOCKS if whole <= longest or not longest)
    everything = [span for row in rows for span in row]
    cells = max(1, MOST // (len(rows) * len({_kind(span) for span in everything})))
    marks = [
        mark
        for i, row in enumerate(rows)
        for mark in (
            [_mark(i, s.begin, s.end, [s]) for s in row] if len(everything) <= MOST else _cells(row, i, whole, cells)
        )
    ]
    for mark in marks:
        mark["from"], mark["to"] = (float(f"{mark[key] / seconds:.6g}") for key in ("from", "to"))
    return {"unit": unit, "rows": names, "marks": marks}


def _since(start: datetime, moment: datetime) -> float:
    return max(0.0, (moment - start).total_seconds())


def _named(run: str, row: int, rows: int) -> str:
    return f"{run}, {row} of {rows} at once" if rows > 1 else run


def _at_once(spans: list[Span]) -> list[list[Span]]:
    """Each span in the first row that is free at its beginning."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: (s.begin, s.end)):
        free = next((row for row in rows if row[-1].end <= span.begin), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows


def _cells(row: list[Span], place: int, whole: float, cells: int) -> Iterator[dict[str, Any]]:
    """Each of `cells` stretches of time is shared out among the kinds of trials that began in it."""
    found: dict[int, dict[tuple[str, str], list[Span]]] = {}
    for span in row:
        cell = min(cells - 1, int(span.begin / whole * cells))
        found.setdefault(cell, {}).setdefault(_kind(span), []).append(span)
    for kinds in found.values():
        spans = [s for own in kinds.values() for s in own]
        begin = min(s.begin for s in spans)
        width = max(s.end for s in spans) - begin
        used = sum(s.end - s.begin for s in spans)
        for own in kinds.values():
            share = sum(s.end - s.begin for s in own) / used if used else 1 / len(kinds)
            yield _mark(place, begin, begin + share * width, own)
            begin += share * width


def _kind(span: Span) -> tuple[str, str]:
    return span.placed.title, span.placed.trial.state


def _mark(row: int, begin: float, end: float, spans: list[Span]) -> dict[str, Any]:
    first = spans[0].placed
    return {
        "row": row, "from": begin, "to": end, "title": first.title, "arm": first.arm, "number": first.trial.number,
        "state": first.trial.state, "count": len(spans),
    }  # fmt: skip
