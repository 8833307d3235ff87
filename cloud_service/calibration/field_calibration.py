"""Makes a gate from what the store holds of the field; see `cloud_service.calibration.recalibrate`."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloud_service.calibration.recalibrate import FieldData, attainable, recalibrated
from cloud_service.cases.comparison import FROM_DEVICE, FROM_IMPORT, Comparison, LabelledAnswer
from cloud_service.cases.selection import AuditShares, sample_of_comparisons, sample_of_labels, thinned
from cloud_service.config import load_cloud_settings
from cloud_service.dashboard.ranges import read_moment
from cloud_service.storage.case_reader import CaseReader, FieldQuestion
from cloud_service.storage.engine import open_engine
from shared import __version__
from shared.bundle import Bundle, read_bundle, replace_gate
from shared.errors import ConfigurationError, GateError
from shared.gate import Gate, Risk, gate_document, parse_gate

_AGO = re.compile(r"(\d{1,5})([dhm])")
_UNIT_S = {"d": 86_400, "h": 3600, "m": 60}


def recalibrate(options: argparse.Namespace) -> int:
    """`gate recalibrate`: certify, and write the gate unless nothing that is in force is certified any more.

    Raises:
        ConfigurationError: an option does not fit, or there are no data for it.
        GateError: the field's data do not certify what is in force; the text says what is attainable.
        NotReady, StorageError: the store cannot be read.
    """
    bundle = read_bundle(options.bundle)
    if bundle.gate is None:
        raise ConfigurationError(f"{options.bundle}: this bundle has no gate; edge bundles have one")
    reader = CaseReader(open_engine(_store_url(options), writes=False))
    try:
        data = _field_data(reader, bundle, bundle.gate, options)
    finally:
        reader.close()
    gate = recalibrated(bundle.gate, bundle.manifest.labels, data)
    _require_thresholds(gate, data)
    _write(options, bundle, gate)
    for line in _words(gate, data):
        sys.stdout.write(line + "\n")
    return 0


def read_time(name: str, text: str, now_s: int) -> int:
    """Seconds since 1970-01-01 UTC of a moment, or of so many days, hours or minutes ago.

    Raises:
        InputError: it is neither.
    """
    ago = _AGO.fullmatch(text)
    return now_s - int(ago[1]) * _UNIT_S[ago[2]] if ago else read_moment(name, text)


def audit_shares(entries: Sequence[str], known: Mapping[str, float]) -> AuditShares:
    """What the operator said of audit shares, as `0.05` or `press-1=0.1`; else what is `known` by device.

    Raises:
        ConfigurationError: an entry is no share.
    """
    default: float | None = None
    by_device = {} if any("=" not in entry for entry in entries) else dict(known)
    for entry in entries:
        device, _, text = entry.rpartition("=")
        try:
            share = float(text)
        except ValueError:
            share = 0.0
        if not 0.0 < share <= 1.0:
            raise ConfigurationError(f"--audit-share {entry}: say a share above 0 and at most 1, or DEVICE=SHARE")
        if device:
            by_device[device] = share
        else:
            default = share
    return AuditShares(default, by_device)


def _field_data(reader: CaseReader, bundle: Bundle, gate: Gate, options: argparse.Namespace) -> FieldData:
    question = _question(bundle, gate, options)
    compared = _of_newest_full_model(reader.comparisons(question))
    known = {} if any("=" not in entry for entry in options.audit_share) else reader.audit_shares(question)
    shares = audit_shares(options.audit_share, known)
    uniform = thinned(compared, shares, options.seed)
    if compared and not uniform and shares.default is None and not shares.by_device:
        raise ConfigurationError("the fleet's counts show no audits, so their share is not known: say --audit-share")
    samples = {Risk.KEPT_DISAGREEMENT: sample_of_comparisons(uniform, options.seed)}
    if options.labels_are_random:
        labelled = _labelled(reader, question, uniform, imported=options.imported_labels)
        by_label = sample_of_labels(labelled, options.seed)
        samples |= {Risk.KEPT_ERROR: by_label, Risk.JOINT: by_label}
    promised = {each.risk for each in gate.certificates}
    if not promised & samples.keys():
        raise ConfigurationError("this gate promises nothing of disagreement: say --labels-are-random where they are")
    digest = compared[-1].full_digest if compared else gate.full_model_digest
    place = f"ring {options.ring}" if options.ring else "all rings"
    return FieldData({risk: each for risk, each in samples.items() if risk in promised}, digest, place, __version__)


def _question(bundle: Bundle, gate: Gate, options: argparse.Namespace) -> FieldQuestion:
    now_s = int(time.time())
    identity = bundle.identity
    return FieldQuestion(
        identity.name,
        identity.version,
        (gate.digest, *(_earlier(file, gate).digest for file in options.also_gate)),
        read_time("--since", options.since, now_s) if options.since else 0,
        read_time("--until", options.until, now_s) if options.until else now_s + 1,
        options.ring,
    )


def _earlier(file: Path, gate: Gate) -> Gate:
    try:
        earlier = parse_gate(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"--also-gate {file}: cannot be read: {error}") from error
    scored = (earlier.model_digest, earlier.score, earlier.temperature)
    if scored != (gate.model_digest, gate.score, gate.temperature):
        raise ConfigurationError(f"--also-gate {file}: it is of another model, score or temperature")
    return earlier


def _of_newest_full_model(compared: Sequence[Comparison]) -> list[Comparison]:
    """Disagreement is with one full model: the one that answered last."""
    return [each for each in compared if each.full_digest == compared[-1].full_digest]


def _labelled(
    reader: CaseReader, question: FieldQuestion, uniform: Sequence[Comparison], *, imported: bool
) -> list[LabelledAnswer]:
    """Devices' labels are for any of their answers; imported ones for compared requests, so these are thinned too."""
    if not imported:
        return reader.labelled(question, FROM_DEVICE)
    stays = {(each.device_id, each.request_id) for each in uniform}
    found = reader.labelled(question, FROM_IMPORT)
    return [each for each in found if (each.device_id, each.request_id) in stays]


def _require_thresholds(gate: Gate, data: FieldData) -> None:
    """A gate that would escalate all is not what was asked for; the devices tighten by themselves."""
    lacking = [
        attainable(certificate, gate.in_force[certificate.risk])
        for certificate in gate.certificates
        if certificate.risk in data.samples
        and certificate.risk in gate.in_force
        and certificate.step(gate.in_force[certificate.risk]).threshold is None
    ]
    if lacking:
        raise GateError("nothing is written, for the field does not certify what is in force. " + ". ".join(lacking))


def _write(options: argparse.Namespace, bundle: Bundle, gate: Gate) -> None:
    try:
        if options.write:
            replace_gate(bundle, gate)
        else:
            options.out.write_bytes(gate_document(gate))
    except OSError as error:
        raise ConfigurationError(f"the gate cannot be written: {error}") from error


def _words(gate: Gate, data: FieldData) -> list[str]:
    told = []
    for risk, sample in data.samples.items():
        told.append(f"{risk.value}: {len(sample)} requests of the field, {int(sample.wrong.sum())} of them wrong;")
        told += [_step_words(gate, risk, alpha) for alpha in _alphas(gate, risk)]
    kept = [each.risk.value for each in gate.certificates if each.risk not in data.samples]
    told += [f"{', '.join(kept)}: as certified before"] if kept else []
    return [*told, f"gate {gate.digest}"]


def _alphas(gate: Gate, risk: Risk) -> list[float]:
    return [step.alpha for step in gate.certificate(risk).steps]


def _step_words(gate: Gate, risk: Risk, alpha: float) -> str:
    step = gate.certificate(risk).step(alpha)
    force = " (in force)" if gate.in_force.get(risk) == alpha else ""
    if step.threshold is None:
        return f"  alpha {alpha:g}{force}: no threshold: {step.reason}"
    bound = f"risk at most {step.risk_bound:.2%}, expected offload {step.expected_offload:.1%}"
    return f"  alpha {alpha:g}{force}: threshold {step.threshold:.6g}, {bound}"


def _store_url(options: argparse.Namespace) -> str:
    if options.store:
        return str(options.store)
    return load_cloud_settings(options.config).storage_url()
