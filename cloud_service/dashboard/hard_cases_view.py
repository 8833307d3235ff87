"""The address of a view of hard cases, and what the page shows of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from cloud_service.cases.comparison import LABEL_CHARACTERS
from cloud_service.cases.grouping import (
    Case,
    CaseFilter,
    CaseKind,
    PairCount,
    PairGroup,
    ScoreBand,
    pair_groups,
    score_bands,
)
from cloud_service.cases.similarity import alike
from cloud_service.dashboard.ranges import Preset, Stretch, stretch_of
from shared.errors import InputError
from shared.types import checked_identifier

MOST_COMPARISONS = 50_000
"""Cases are looked for among the newest so many."""
MOST_EXPORTED = 200_000
MOST_LOOKED_AT = 1000
"""The newest so many of one pair are told apart by score and text."""
MOST_PAIRS_SHOWN = 40
_EXAMPLES = 3
_GROUPS_SHOWN = 12
_REQUESTS_SHOWN = 25
_KEYS = ("kind", "range", "from", "to", "model", "ring", "version", "differing", "edge", "right")
KIND_WORDS = {
    CaseKind.ALL: "Escalated, and audited wrong",
    CaseKind.ESCALATED: "Escalated",
    CaseKind.AUDITED_WRONG: "Audited wrong",
    CaseKind.TRUE_LABELS: "True label contradicts",
}


@dataclass(frozen=True)
class CasesAddress:
    """What is shown. `pair`: the device's label and the right one."""

    kind: CaseKind = CaseKind.ALL
    stretch: Stretch = field(default_factory=Stretch)
    model: str = ""
    ring: str = ""
    version: str = ""
    differing_only: bool = False
    pair: tuple[str, str] | None = None

    def query(self) -> str:
        """The canonical query: defaults left out, the rest in a fixed order."""
        parts = {} if self.kind is CaseKind.ALL else {"kind": self.kind.value}
        parts |= self.stretch.address()
        parts |= {name: getattr(self, name) for name in ("model", "ring", "version") if getattr(self, name)}
        parts |= {"differing": "1"} if self.differing_only else {}
        parts |= dict(zip(("edge", "right"), self.pair, strict=True)) if self.pair else {}
        return urlencode(parts)

    def path(self, page: str = "/hard-cases") -> str:
        """The address on this site."""
        query = self.query()
        return f"{page}?{query}" if query else page

    def over(self, preset: Preset) -> CasesAddress:
        """The same at another time."""
        return replace(self, stretch=Stretch(preset))

    def of_pair(self, pair: tuple[str, str] | None) -> CasesAddress:
        """One pair of these; None for all."""
        return replace(self, pair=pair)

    def filter(self, now_s: int) -> CaseFilter:
        """What to ask the store at `now_s`."""
        preset = self.stretch.preset
        since_s = now_s - preset.span_s if preset else self.stretch.since_s
        until_s = now_s + 1 if preset else self.stretch.until_s
        return CaseFilter(
            self.kind, since_s, until_s, self.model, self.ring, self.version, self.pair, self.differing_only
        )


def cases_address(values: Mapping[str, str], now_s: int) -> CasesAddress:
    """The view that a query names; empty parts count as left out.

    Raises:
        InputError: a part is unknown or out of its range; the text says which.
    """
    if unknown := [name for name in values if name not in _KEYS]:
        raise InputError(f"{unknown[0][:40]!r} is not known here; use {', '.join(_KEYS)}")
    kinds = {each.value: each for each in CaseKind}
    kind = values.get("kind") or CaseKind.ALL.value
    if kind not in kinds:
        raise InputError(f"kind must be one of {', '.join(kinds)}, not {kind[:40]!r}")
    names = {name: checked_identifier(name, values[name]) for name in ("model", "ring", "version") if values.get(name)}
    return CasesAddress(
        kinds[kind], stretch_of(values, now_s), **names, differing_only=values.get("differing") == "1",
        pair=_pair(values),
    )  # fmt: skip


def _pair(values: Mapping[str, str]) -> tuple[str, str] | None:
    edge, right = values.get("edge", ""), values.get("right", "")
    if not edge and not right:
        return None
    if not edge or not right:
        raise InputError("edge and right name a pair: both are needed")
    if max(len(edge), len(right)) > LABEL_CHARACTERS:
        raise InputError(f"a label has at most {LABEL_CHARACTERS} characters")
    return edge, right


@dataclass(frozen=True)
class PairRow:
    """One line of the table; `percent` is its bar's length, the longest 100."""

    group: PairGroup
    path: str
    percent: float
    is_chosen: bool


@dataclass(frozen=True)
class Likeness:
    """Texts alike: how many of those looked at, and the newest few."""

    cases: int
    share: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class PairDetail:
    """One pair: the newest cases by score, by text where texts may be shown, and by name."""

    edge_label: str
    right_label: str
    looked_at: int
    bands: tuple[ScoreBand, ...]
    likenesses: tuple[Likeness, ...]
    more_likenesses: int
    with_text: int
    requests: tuple[Case, ...]

    @property
    def most_in_band(self) -> int:
        """The fullest band, for the bars."""
        return max((band.cases for band in self.bands), default=0) or 1


@dataclass(frozen=True)
class CasesView:
    """The page. `looked_at`: among how many comparisons; `is_capped`: there may be more in this stretch of time."""

    address: CasesAddress
    rows: tuple[PairRow, ...]
    total: int
    pairs: int
    differing: int
    looked_at: int
    is_capped: bool
    detail: PairDetail | None


def cases_view(
    address: CasesAddress, counts: Sequence[PairCount], looked_at: int, detail: PairDetail | None
) -> CasesView:
    """What is shown of `counts`, found among `looked_at` comparisons, and of one pair."""
    groups = pair_groups(counts)
    longest = max((group.cases for group in groups), default=1)
    rows = tuple(_row(address, group, longest) for group in groups[:MOST_PAIRS_SHOWN])
    total = sum(group.cases for group in groups)
    differing = sum(group.cases for group in groups if not group.agrees)
    is_capped = looked_at >= MOST_COMPARISONS
    return CasesView(address, rows, total, len(groups), differing, looked_at, is_capped, detail)


def pair_detail(pair: tuple[str, str], cases: Sequence[Case]) -> PairDetail:
    """One pair's newest cases in groups."""
    texts = [each.text for each in cases if each.text is not None]
    groups = alike(texts)
    likenesses = tuple(
        Likeness(len(group.members), len(group.members) / len(texts), tuple(_examples(texts, group.members)))
        for group in groups[:_GROUPS_SHOWN]
    )
    bands = score_bands([each.edge_score for each in cases])
    return PairDetail(
        *pair, len(cases), bands, likenesses, len(groups) - len(likenesses), len(texts), tuple(cases[:_REQUESTS_SHOWN])
    )


def _row(address: CasesAddress, group: PairGroup, longest: int) -> PairRow:
    pair = (group.edge_label, group.right_label)
    is_chosen = pair == address.pair
    path = address.of_pair(None if is_chosen else pair).path()
    return PairRow(group, path, 100.0 * group.cases / longest, is_chosen)


def _examples(texts: Sequence[str], members: Sequence[int]) -> list[str]:
    """The newest few that are not the same."""
    return list(dict.fromkeys(texts[member] for member in members))[:_EXAMPLES]
