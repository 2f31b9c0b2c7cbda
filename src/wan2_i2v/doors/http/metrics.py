"""Figures for Prometheus: requests as they are answered, jobs and streams as they are when somebody asks.

Imported by the gate, which counts, and by the route that shows.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from wan2_i2v.doors.http.door import Door

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
METHODS = frozenset(("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"))


class Metrics:
    """The figures of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "wan2_i2v_http_requests", "Requests answered", ("method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "wan2_i2v_http_first_byte_seconds",
            "Time until the first byte of an answer",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.jobs = Gauge("wan2_i2v_jobs", "Jobs in the store, by state", ("state",), registry=self.registry)
        self.streams = Gauge("wan2_i2v_event_streams", "Open event streams", registry=self.registry)
        self.computing = Gauge("wan2_i2v_computing", "1 while the worker has jobs in hand", registry=self.registry)

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count one answer; `seconds` until its first byte."""
        self.requests.labels(method if method in METHODS else "other", str(status)).inc()
        self.seconds.observe(seconds)


def exposition(metrics: Metrics, door: Door) -> bytes:
    """All figures in Prometheus' text format. Reads the store."""
    for state, count in door.service.store.counts().items():
        metrics.jobs.labels(state).set(count)
    metrics.streams.set(door.broadcaster.streams)
    metrics.computing.set(door.service.worker.is_busy)
    return generate_latest(metrics.registry)
