"""What Prometheus reads: names of the field, base units."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nstx.engine.jobs.records import FINAL
from nstx.engine.service.service import Service

_METHODS = ("GET", "POST", "DELETE")
_JOB = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)
_STEP = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)


class Metrics:
    """Counts what happens; `observe` is a `nstx.engine.service.supervising.Observer`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own = self._registry
        self._jobs = Counter("nstx_jobs", "Jobs that ended.", ["status"], registry=own)
        self._durations = Histogram(
            "nstx_job_duration_seconds", "From a job's last start to its end.", ["status"], buckets=_JOB, registry=own,
        )  # fmt: skip
        self._steps = Histogram(
            "nstx_step_seconds",
            "From one step that was told of to the next.",
            buckets=_STEP,
            registry=own,
        )
        self._restarts = Counter("nstx_worker_restarts", "Workers that died.", registry=own)
        self._requests = Counter(
            "nstx_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=own,
        )
        self._seconds = Histogram(
            "nstx_http_request_duration_seconds", "Until an answer begins.", ["route"], buckets=_REQUEST, registry=own,
        )  # fmt: skip
        ProcessCollector(registry=self._registry)
        for status in FINAL:
            self._jobs.labels(status)

    def observe(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take note of what a service sees."""
        if kind == "step":
            self._steps.observe(data["seconds"])
        elif kind == "died":
            self._restarts.inc()
        elif kind == "ended":
            self._jobs.labels(data["status"]).inc()
            if data["seconds"] is not None:
                self._durations.labels(data["status"]).observe(data["seconds"])

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take note of a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def follow(self, service: Service) -> None:
        """Also tell how a service stands when it is asked for."""
        self._registry.register(_Standing(service))

    def render(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self._registry)


class Measured:
    """Takes the time until each answer begins."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                seconds = time.perf_counter() - began
                self._metrics.request(_method_of(scope), route, message["status"], seconds)
            await send(message)

        await self._app(scope, receive, answer)


def _method_of(scope: Scope) -> str:
    """Return the method of a request; strangers may send any word."""
    return scope["method"] if scope["method"] in _METHODS else "other"


class _Standing(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        counts = self._service.counts()
        yield GaugeMetricFamily("nstx_queue_depth", "Jobs that wait.", value=counts["queued"])
        yield GaugeMetricFamily("nstx_jobs_running", "Jobs that run.", value=counts["running"])
        workers = self._service.choice.workers
        yield GaugeMetricFamily("nstx_workers", "Workers that there are to be.", value=workers)
        ready = float(self._service.trouble is None)
        yield GaugeMetricFamily("nstx_ready", "1 if jobs are taken and made.", value=ready)

    def describe(self) -> list[Metric]:
        return []
