"""Who is measured: each with its module in this package, its variant there, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.peers.agreement import EIGHT_BITS, EXACT, FOUR_BITS


@dataclass(frozen=True)
class Contestant:
    """`own`: runs in this project's environment, not in that of the peers. `least_cosine`: see `agreement`."""

    name: str
    module: str
    variant: str
    own: bool = False
    classifies: bool = True
    generates: bool = True
    least_cosine: float = EIGHT_BITS

    @property
    def folder_name(self) -> str:
        return f"{self.module}-{self.variant}"


BASELINE = "PyTorch FP32"
CONTESTANTS = (
    Contestant(BASELINE, "pytorch", "fp32", own=True, least_cosine=EXACT),
    Contestant("Tandem INT8", "tandem", "int8", own=True, generates=False),
    Contestant("Tandem INT8 prompt, 4-bit steps", "tandem", "pair", own=True, classifies=False, least_cosine=FOUR_BITS),
    Contestant("llama.cpp Q8_0", "llamacpp", "Q8_0"),
    Contestant("llama.cpp Q4_0", "llamacpp", "Q4_0", least_cosine=FOUR_BITS),
    Contestant("CTranslate2 INT8, label head", "ctranslate", "classifier", generates=False),
    Contestant("CTranslate2 INT8", "ctranslate", "generator", classifies=False),
    Contestant("OpenVINO INT8 weights", "openvino_int8", "weights", generates=False),
    Contestant("OpenVINO INT8", "openvino_int8", "full", generates=False),
    Contestant("OpenVINO INT8 weights, with cache", "openvino_int8", "generator", classifies=False),
    Contestant("onnxruntime-genai 4-bit", "genai", "int4", least_cosine=FOUR_BITS),
    Contestant("onnxruntime-genai 8-bit", "genai", "int8"),
)


def contestant(folder_name: str) -> Contestant:
    """Raises: StopIteration: none has that folder."""
    return next(one for one in CONTESTANTS if one.folder_name == folder_name)
