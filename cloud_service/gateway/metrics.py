"""The gateway's figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cloud_service.serving.batcher import BatchReport

_QUEUE_MS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
_BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class GatewayMetrics:
    """Counters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tandem_gateway_requests", "Calls by gRPC status code", ["model", "code"], registry=self.registry
        )
        self.replayed = Counter(
            "tandem_gateway_replayed", "Calls answered by an earlier copy's answer", ["model"], registry=self.registry
        )
        self.expired = Counter(
            "tandem_gateway_expired",
            "Requests dropped before compute, their deadline passed",
            ["model"],
            registry=self.registry,
        )
        self.queued = Gauge("tandem_gateway_queued", "Requests waiting", ["model"], registry=self.registry)
        self.queue_ms = Histogram(
            "tandem_gateway_queue_ms",
            "Time from arrival in the line to compute, ms",
            ["model"],
            buckets=_QUEUE_MS,
            registry=self.registry,
        )
        self.compute_s = Counter(
            "tandem_backend_compute_seconds", "Wall time of all batches, s", ["model"], registry=self.registry
        )
        self.cpu_s = Counter(
            "tandem_backend_cpu_seconds", "CPU time of the computing threads, s", ["model"], registry=self.registry
        )
        self.padded_tokens = Counter(
            "tandem_backend_padded_tokens", "Tokens computed, padding among them", ["model"], registry=self.registry
        )
        self.batch_size = Histogram(
            "tandem_backend_batch_size", "Requests a batch", ["model"], buckets=_BATCH_SIZES, registry=self.registry
        )


class ModelMetrics:
    """One model's figures, as the batcher's observer."""

    def __init__(self, metrics: GatewayMetrics, model: str) -> None:
        self._expired = metrics.expired.labels(model)
        self._queue_ms = metrics.queue_ms.labels(model)
        self._compute_s = metrics.compute_s.labels(model)
        self._cpu_s = metrics.cpu_s.labels(model)
        self._padded_tokens = metrics.padded_tokens.labels(model)
        self._batch_size = metrics.batch_size.labels(model)

    def computed(self, report: BatchReport) -> None:
        """See `BatchObserver`."""
        self._compute_s.inc(report.wall_s)
        self._cpu_s.inc(report.cpu_s)
        self._padded_tokens.inc(report.padded_tokens)
        self._batch_size.observe(report.size)

    def waited(self, queue_ms: float) -> None:
        """See `BatchObserver`."""
        self._queue_ms.observe(queue_ms)

    def expired(self, count: int) -> None:
        """See `BatchObserver`."""
        self._expired.inc(count)
