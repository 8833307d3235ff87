"""Whether a reduced tokenizer still reads what its source reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

SCRIPTS = (
    "我的银行卡丢了，请帮我冻结账户。",
    "銀行カードをなくしました。カタカナ、ひらがな",
    "은행 카드를 잃어버렸어요",
    "فقدت بطاقتي المصرفية، ماذا أفعل؟",
    "איבדתי את הכרטיס",
    "Я потерял карту — что делать?",
    "मेरा कार्ड खो गया है",
    "บัตรของฉันหาย",
    "Ça coûte 12 € à Zürich; señor, naïve façade, Żółć",
    "😀 👩‍👩‍👧 🇨🇭 ✅ 💳",
    "def f(x: int) -> str:\n\treturn f'{x!r}'  # {}[]<>\\|~`^",
    "https://example.com/a?b=c&d=%20, 3.14e-10, 1,000,000",
    "  two  spaces and a tab\t.",
)


@dataclass(frozen=True)
class Fidelity:
    """Texts that a reduced tokenizer reads otherwise than its source; each tuple is empty where all is well."""

    changed: tuple[str, ...]  # of the domain: other pieces
    unknown: tuple[str, ...]  # from outside: unknown tokens, where the source has none
    altered: tuple[str, ...]  # from outside: decoded to another text than the source decodes to
    length_ratio: float  # tokens of the texts from outside, by those of the source

    @property
    def faithful(self) -> bool:
        """Nothing reads otherwise."""
        return not (self.changed or self.unknown or self.altered)


@dataclass(frozen=True)
class Reader:
    """A tokenizer and what of it a comparison needs: the source's id of each of its pieces, and its unknown's."""

    tokenizer: Tokenizer
    source_ids: Sequence[int]
    unknown_id: int | None

    def ids(self, text: str) -> list[int]:
        """The source's ids of the text's pieces."""
        return [self.source_ids[index] for index in self.tokenizer.encode(text).ids]

    def whole(self) -> Reader:
        """The same without truncation and padding."""
        copy = Tokenizer.from_str(self.tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
        return Reader(copy, self.source_ids, self.unknown_id)


def compare(source: Reader, reduced: Reader, domain: Sequence[str], outside: Sequence[str], decodes: bool) -> Fidelity:
    """Read `domain` with both, truncated as they are; `outside` and `SCRIPTS` whole."""
    changed = tuple(text for text in domain if source.ids(text) != reduced.ids(text))
    first, second = source.whole(), reduced.whole()
    unknown, altered, before, after = [], [], 0, 0
    for text in (*SCRIPTS, *outside):
        was, now = first.tokenizer.encode(text), second.tokenizer.encode(text)
        before, after = before + len(was), after + len(now)
        if first.unknown_id in was.ids:
            continue
        if second.unknown_id in now.ids:
            unknown.append(text)
        elif decodes and _decoded(first, was) != _decoded(second, now):
            altered.append(text)
    return Fidelity(changed, tuple(unknown), tuple(altered), after / max(1, before))


def _decoded(reader: Reader, encoding: Encoding) -> str:
    return reader.tokenizer.decode(encoding.ids)
