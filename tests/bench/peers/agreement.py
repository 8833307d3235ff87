"""Whether an engine computes the network that was asked for: its answers beside those of PyTorch in FP32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.peers.peer import EXPECTED_FILE, Floats, Peer

EXACT, EIGHT_BITS, FOUR_BITS = 0.9999, 0.9, 0.62
"""The least cosine to PyTorch's answer. Rotary pairs taken wrongly give 0.57 in this network, which is made to show
it; 8 bits give 0.95 to 0.99 and 4 bits 0.67 to 0.78."""


class DisagreementError(Exception):
    """An engine's answer is not that of the same network."""


@dataclass(frozen=True)
class Expected:
    """What PyTorch computes of `ids` in FP32.

    `answers`, by their size: the last token's state [hidden], the logits of labels [labels] and of the vocabulary
    [vocabulary]. `seconds`: the vocabulary's logits after a further token, for each of the likeliest ones.
    """

    ids: list[int]
    answers: dict[int, Floats]
    seconds: dict[int, Floats]

    @property
    def firsts(self) -> Floats:
        """The vocabulary's logits after `ids`."""
        return self.answers[max(self.answers)]

    @classmethod
    def read(cls, checkpoint: Path) -> Expected:
        """What `checkpoint.write_expected` stored."""
        stored = np.load(checkpoint / EXPECTED_FILE)
        answers = (stored[name] for name in ("state", "labels", "logits"))
        seconds = dict(zip(stored["first_tokens"].tolist(), stored["second_logits"], strict=True))
        return cls(stored["ids"].tolist(), {one.size: one for one in answers}, seconds)


def check_class(peer: Peer, expected: Expected, least_cosine: float) -> str:
    """Compare the answer for a text with PyTorch's; returns how near it is.

    Raises:
        DisagreementError: the cosine is below `least_cosine`.
    """
    answer = peer.classify(expected.ids)
    right = expected.answers[answer.size]
    cosine = float(answer @ right / (np.linalg.norm(answer) * np.linalg.norm(right)))
    if not cosine >= least_cosine:
        raise DisagreementError(f"cosine with PyTorch FP32 {cosine:.4f}, at least {least_cosine} expected")
    return f"cosine {cosine:.4f}"


def check_tokens(peer: Peer, expected: Expected, least_cosine: float) -> str:
    """Two greedy tokens are likely ones in PyTorch too, the second from the cache; returns how likely.

    Likely: a logit near the highest, as near as the cosine of all the logits may be, with a third to spare. One
    drawn by chance lies about 0. After a first token for which PyTorch's logits are not at hand, the second has to
    be what the engine itself answers to the prompt with the first.

    Raises:
        DisagreementError: one is not.
    """
    first = peer.first_token(expected.ids)
    second = peer.step()
    shares = [_share(expected.firsts, first)]
    if first in expected.seconds:
        shares.append(_share(expected.seconds[first], second))
    elif peer.first_token([*expected.ids, first]) != second:
        raise DisagreementError("a step over the cache and a longer prompt give different tokens")
    if min(shares) < least_cosine * 2 / 3:
        raise DisagreementError(f"tokens with {shares} of the highest logit")
    return "tokens " + ", ".join(f"{share:.2f}" for share in shares)


def _share(logits: Floats, token: int) -> float:
    return float(logits[token] / logits.max())
