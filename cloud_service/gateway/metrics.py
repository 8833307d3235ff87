"""The gateway's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from cloud_service.serving.batcher import BatchReport
from shared.types import ModelIdentity

_BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_QUEUE_MS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


class GatewayMetrics:
    """Counters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("tandem_gateway_requests", "Calls by gRPC status code", "model", "code")
        self.replayed = self._counter("tandem_gateway_replayed", "Calls answered by an earlier copy's answer", "model")
        self.expired = self._counter("tandem_gateway_expired", "Dropped uncomputed, their deadline passed", "model")
        self.compute_s = self._counter("tandem_backend_compute_seconds", "Wall time of all batches", "model")
        self.cpu_s = self._counter("tandem_backend_cpu_seconds", "CPU time of the computing threads", "model")
        self.queued = self._gauge("tandem_gateway_queued", "Requests waiting", "model")
        self.models = self._gauge("tandem_gateway_model_info", "1 a model", "model", "version", "digest", "provider")
        self.swaps = self._counter("tandem_gateway_model_swaps", "Models exchanged under traffic", "model", "result")
        self.recording = RecordingMetrics(self.registry)
        self.queue_ms = self._histogram("tandem_gateway_queue_ms", "From arrival in the line to compute", _QUEUE_MS)
        self.batch_size = self._histogram("tandem_backend_batch_size", "Requests a batch", _BATCH_SIZES)

    def serve(self, identity: ModelIdentity, provider: str, queued: Callable[[], float]) -> ModelMetrics:
        """Begin to count for a model; its counters show zero from now on. `queued` says how many wait."""
        self.models.labels(identity.name, identity.version, identity.digest, provider).set(1)
        for result in ("swapped", "failed"):
            self.swaps.labels(identity.name, result)
        self.queued.labels(identity.name).set_function(queued)
        self.replayed.labels(identity.name)
        return ModelMetrics(self, identity.name)

    def swapped(self, before: ModelIdentity, provider_before: str, identity: ModelIdentity, provider: str) -> None:
        """One model has taken another's place."""
        self.models.remove(before.name, before.version, before.digest, provider_before)
        self.models.labels(identity.name, identity.version, identity.digest, provider).set(1)
        self.swaps.labels(identity.name, "swapped").inc()

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> Histogram:
        return Histogram(name, meaning, ("model",), buckets=bounds, registry=self.registry)


class RecordingMetrics:
    """What became of comparisons and of labels that came back."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.recorded = Counter("tandem_gateway_comparisons", "Comparisons written to the store", registry=registry)
        self.dropped = Counter("tandem_gateway_comparisons_dropped", "Comparisons without room", registry=registry)
        self.waiting = Gauge("tandem_gateway_comparisons_waiting", "Comparisons to be written", registry=registry)
        self.labels = Counter("tandem_gateway_true_labels", "True labels that came back", registry=registry)


class ModelMetrics:
    """One model's figures, as the batcher's observer."""

    def __init__(self, metrics: GatewayMetrics, model: str) -> None:
        self._expired = metrics.expired.labels(model)
        self._queue_ms = metrics.queue_ms.labels(model)
        self._compute_s = metrics.compute_s.labels(model)
        self._cpu_s = metrics.cpu_s.labels(model)
        self._batch_size = metrics.batch_size.labels(model)

    def computed(self, report: BatchReport, queue_ms: Sequence[float]) -> None:
        """See `BatchObserver`."""
        self._compute_s.inc(report.wall_s)
        self._cpu_s.inc(report.cpu_s)
        self._batch_size.observe(report.size)
        for wait_ms in queue_ms:
            self._queue_ms.observe(wait_ms)

    def expired(self, count: int) -> None:
        """See `BatchObserver`."""
        self._expired.inc(count)
