"""From what the field told to one uniform sample of its requests. Pure.

A kept answer is compared with the full model only where it was audited: with the device's audit share s, whatever the
request says. An answer under the gate is escalated, and so compared, always. Taken together the two would show the
gate's doubts far too often. So every comparison stays with the chance that makes all requests alike: with the smallest
share m of all devices, an audited one stays with chance m / s, an escalated one with chance m. Then each request of the
field is in the sample with chance m, whatever it says and whatever the gate said of it: a uniform sample, on which
thresholds stricter and looser than today's can be certified.

The chance comes from a hash of device and request id with a seed, so that the choice can be repeated and cannot depend
on what was answered. Three things are taken for granted, and an operator has to know them: comparisons that are missing
(failed audits, calls that timed out, what a full queue dropped) are missing at random, audits as often as escalations;
a device's share did not change within the time that is looked at; and no budget kept answers under the gate in that
time, as these are neither escalated nor audited. Only thresholds looser than those of that time depend on the last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloud_service.cases.comparison import Comparison, LabelledAnswer, priority_word
from shared.types import Priority, Reason

_AUDIT = priority_word(Priority.AUDIT)
_BY_THE_GATE = frozenset({Reason.UNCERTAIN.value, Reason.UNCERTIFIED.value})
_HALF = 0.5


@dataclass(frozen=True)
class AuditShares:
    """The share of kept answers that devices audit, each in (0, 1]: `default`, and by device where it is another.

    `default` None: devices that are not named are left out.
    """

    default: float | None
    by_device: Mapping[str, float] = field(default_factory=dict)

    def of(self, device_id: str) -> float | None:
        """The device's share; None where it is not known or nothing is audited."""
        return self.by_device.get(device_id, self.default) or None


@dataclass(frozen=True)
class FieldSample:
    """A uniform sample of the field's requests.

    `scores` and the device's own probabilities, float64 [n], `wrong` bool [n], `labels` the device's answers [n];
    `tunes` bool [n] says which half fixes the starts. `first_s` and `last_s`: of the answers, seconds since 1970-01-01
    UTC. `digest`: SHA-256 of the rows.
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    labels: tuple[str, ...]
    tunes: NDArray[np.bool_]
    first_s: int
    last_s: int
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


def thinned(comparisons: Iterable[Comparison], shares: AuditShares, seed: int) -> list[Comparison]:
    """The comparisons that stay, so that all requests are in with one chance; see above.

    What a caller asked for by name (route cloud) tells nothing of the gate's requests and is left out, and so are
    devices without a share.
    """
    told = [each for each in comparisons if _is_chosen_by_gate_or_chance(each) and shares.of(each.device_id)]
    least = min((shares.of(each.device_id) or 1.0 for each in told), default=1.0)
    return [each for each in told if _chances(seed, each)[0] < _stays_with(each, shares, least)]


def sample_of_comparisons(uniform: Sequence[Comparison], seed: int) -> FieldSample:
    """What `thinned` left, judged by the full model's answers."""
    return _sample([_Row(each.at_s, each, each.full_label) for each in uniform], seed)


def sample_of_labels(labelled: Sequence[LabelledAnswer], seed: int) -> FieldSample:
    """Answers judged by the true labels that came back: uniform where labels come back for a random part."""
    return _sample([_Row(each.answered_s, each, each.true_label) for each in labelled], seed)


def _is_chosen_by_gate_or_chance(each: Comparison) -> bool:
    return each.priority == _AUDIT or (not each.kept and each.reason in _BY_THE_GATE)


def _stays_with(each: Comparison, shares: AuditShares, least: float) -> float:
    share = shares.of(each.device_id) or 1.0
    return least / share if each.priority == _AUDIT else least


def _chances(seed: int, each: Comparison | LabelledAnswer) -> tuple[float, float]:
    """Two numbers in [0, 1), as good as independent and uniform: for the thinning, and for the halves."""
    digest = hashlib.sha256(f"{seed}\0{each.device_id}\0{each.request_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, int.from_bytes(digest[8:16], "big") / 2**64


@dataclass(frozen=True, slots=True)
class _Row:
    at_s: int
    answer: Comparison | LabelledAnswer
    right_label: str

    def written(self) -> bytes:
        """For the digest of all rows; in their order."""
        told = self.answer
        fields = (self.at_s, told.device_id, told.request_id, told.edge_label, self.right_label, repr(told.gate_score))
        return ("\0".join(map(str, fields)) + "\n").encode("utf-8", "surrogatepass")


def _sample(rows: Sequence[_Row], seed: int) -> FieldSample:
    """In the order of time, and of names where that is the same."""
    ordered = sorted(rows, key=lambda row: (row.at_s, row.answer.device_id, row.answer.request_id))
    digest = hashlib.sha256()
    for row in ordered:
        digest.update(row.written())
    return FieldSample(
        scores=np.array([row.answer.gate_score for row in ordered], dtype=np.float64),
        probabilities=np.array([row.answer.edge_score for row in ordered], dtype=np.float64),
        wrong=np.array([row.answer.edge_label != row.right_label for row in ordered], dtype=np.bool_),
        labels=tuple(row.answer.edge_label for row in ordered),
        tunes=np.array([_chances(seed, row.answer)[1] < _HALF for row in ordered], dtype=np.bool_),
        first_s=ordered[0].at_s if ordered else 0,
        last_s=ordered[-1].at_s if ordered else 0,
        digest=digest.hexdigest(),
    )
