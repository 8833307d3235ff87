"""Every error that Tandem raises on purpose.

TandemError
├── ConfigurationError        a setting is unknown, missing, out of range or unsafe
├── BundleError               a bundle cannot be used
│   ├── BundleFileMissing
│   ├── BundleDigestMismatch  a file is not the one the manifest names
│   ├── BundleMalformed       the manifest or a part of it cannot be read
│   ├── BundleFormatTooNew    written by a newer Tandem
│   └── BundleGraphMismatch   the graph's inputs or outputs are not what the manifest says
├── GateError                 a gate document or its certificate cannot be trusted
│   └── GateFormatTooNew
├── InputError                the caller's request cannot be served as it is
│   ├── UnknownModel          it names a model that is not here
│   ├── RequestTooLarge       it has more bytes or items than are taken
│   ├── RequestIdReused       its id was used for another payload
│   ├── UnknownRequest        a label is for a request that nobody remembers
│   └── LabelContradicted     another true label was told before
├── Unauthenticated           the caller does not show a valid credential
├── NotReady                  the process is starting or draining
├── MessageError              bytes from the wire are not a valid message
├── Overloaded                bounded room is full; says when to come again
├── DeadlineExpired           there is no time left to compute an answer
├── EngineError               the inference engine failed
├── MeasurementError          probes or a latency table cannot be used, or lack what is asked of them
├── UpdateError               a device cannot take an update; it goes on as it is
│   ├── UpdateRefused         metadata, signature, version, hardware or content is not as it must be
│   ├── FetchFailed           the repository cannot be reached, or answers too slowly; it is tried again
│   │   └── FileNotThere      the repository has no such file
│   ├── NoRoom                the disk, or the memory for two models, is too small
│   ├── ProvingFailed         the new bundle does not answer as it must on this device
│   └── TrialFailed           under real traffic the new bundle did worse than it may
├── RegistryError             the registry, its keys or a bundle to publish cannot be used
├── RolloutError              a rollout cannot be started or changed as asked
├── BrokerError               the MQTT broker cannot be used
├── StorageError              the telemetry store cannot be used
│   ├── StoreTaken            another fleet service writes to it
│   └── StoreRefused          it takes nothing of what was to be written, now or later
└── EscalationError           the cloud was asked and did not answer
    ├── CloudUnavailable
    ├── CloudTimedOut
    ├── CloudOverloaded       says when to come again
    └── CloudRefused          credentials, unknown model or a malformed request
"""

from __future__ import annotations

from pathlib import Path


class TandemError(Exception):
    """Base of all errors raised on purpose; its text says what to do."""


class ConfigurationError(TandemError):
    """A setting is unknown, missing, out of range or unsafe; the text names the key and the file."""


class BundleError(TandemError):
    """A bundle cannot be used; `path` is the bundle's folder or the file at fault."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class BundleFileMissing(BundleError):
    """A file that the manifest names is not there."""


class BundleDigestMismatch(BundleError):
    """A file's length or SHA-256 is not what the manifest says."""


class BundleMalformed(BundleError):
    """The manifest, or a file it names, cannot be read as what it should be."""


class BundleFormatTooNew(BundleError):
    """The bundle was written for a newer format than this program knows."""


class BundleGraphMismatch(BundleError):
    """The graph's inputs or outputs differ from the manifest's."""


class GateError(TandemError):
    """A gate document is malformed, or asks for a threshold that no certificate holds."""


class GateFormatTooNew(GateError):
    """The gate document was written for a newer format than this program knows."""


class InputError(TandemError):
    """The caller's request cannot be served as it is."""


class UnknownModel(InputError):
    """The request names a model that is not here."""


class RequestTooLarge(InputError):
    """The request has more bytes or items than are taken."""


class RequestIdReused(InputError):
    """The request's id was used for another payload."""


class UnknownRequest(InputError):
    """A true label is for a request that was never answered here, or is forgotten by now."""


class LabelContradicted(InputError):
    """Another true label was told for this request before; the first one stands."""


class Unauthenticated(TandemError):
    """The caller does not show a valid credential."""


class NotReady(TandemError):
    """The process is starting or draining; another one, or this one a little later, can answer."""


class MessageError(TandemError):
    """Bytes from the wire are not a valid message."""


class Overloaded(TandemError):
    """A bounded queue is full; `retry_after_s` (seconds) says when to come again."""

    def __init__(self, problem: str, retry_after_s: float) -> None:
        super().__init__(f"{problem}; try again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class DeadlineExpired(TandemError):
    """The request's deadline passed before an answer could be computed."""


class EngineError(TandemError):
    """The inference engine failed to load a graph or to run it."""


class MeasurementError(TandemError):
    """Probes or a latency table cannot be read, written or measured, or they lack the shape that is asked for."""


class UpdateError(TandemError):
    """A device cannot take an update; it goes on with what it runs."""


class UpdateRefused(UpdateError):
    """Metadata, a signature, a version, the hardware or the content is not as it must be; nothing is installed."""


class FetchFailed(UpdateError):
    """The repository cannot be reached, or answers too slowly; what was fetched is kept and the rest tried again."""


class FileNotThere(FetchFailed):
    """The repository has no such file."""


class NoRoom(UpdateError):
    """The disk, or the memory for two models at once, is too small."""


class ProvingFailed(UpdateError):
    """The new bundle does not answer on this device as it must: wrong, too slow, or with too much memory."""


class TrialFailed(UpdateError):
    """Under real traffic the new bundle did worse than its assignment allows."""


class RegistryError(TandemError):
    """The registry, its keys, or a bundle that is to be published cannot be used."""


class RolloutError(TandemError):
    """A rollout cannot be started or changed as asked."""


class BrokerError(TandemError):
    """The MQTT broker cannot be reached or refuses us."""


class StorageError(TandemError):
    """The store cannot be opened, read or written."""


class StoreTaken(StorageError):
    """Another fleet service has begun to write to this store; two would count twice."""


class StoreRefused(StorageError):
    """What was to be written does not fit the store; to try again is in vain."""


class EscalationError(TandemError):
    """The cloud was asked and did not answer."""


class CloudUnavailable(EscalationError):
    """The cloud cannot be reached."""


class CloudTimedOut(EscalationError):
    """The cloud did not answer before the device needed its remaining time."""


class CloudOverloaded(EscalationError):
    """The cloud refused for want of room; `retry_after_s` (seconds) is its hint."""

    def __init__(self, problem: str, retry_after_s: float) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class CloudRefused(EscalationError):
    """The cloud will not serve this request: credentials, unknown model, or a malformed request."""
