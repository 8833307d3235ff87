"""Gates as they travel: compressed with zstd and a dictionary of what every gate's document says alike.

The dictionary belongs to the format: devices decompress with it, so its bytes never change. A gate compressed without
it can be read all the same.
"""

from __future__ import annotations

import zstandard

_STEP = """
    {
     "alpha": 0.0,
     "errors": 0,
     "expected_offload": 1.0,
     "kept": 0,
     "reason": "the likeliest threshold keeps of 1200 calibration samples, of them wrong: too many, or too few \
samples, to show a risk of at most 0.0",
     "risk_bound": 1.0,
     "shortfall": {
      "least_offload": 0.0,
      "more_samples": null,
      "smallest_alpha": 0.0
     },
     "threshold": null
    },
    {
     "alpha": 0.0,
     "errors": 1,
     "expected_offload": 0.0,
     "kept": 1,
     "reason": "",
     "risk_bound": 0.0,
     "shortfall": null,
     "threshold": 0.9
    }"""
_GRID = "".join(
    f""",
     "shortfall": null,
     "threshold": 0.
    }},
    {{
     "alpha": {alpha},
     "errors": """
    for alpha in ("0.005", "0.01", "0.02", "0.03", "0.05", "0.07", "0.075", "0.1", "0.15", "0.2", "0.3")
)
_TEXT = f"""
  "label_rules": [
  {{
   "certified": {{"delta": 0.0, "index": 0, "label": "": 4, "score": "energy" "entropy" "margin" "joint" "expectation"
 "format": 2,
 "full_model_digest": "",
 "in_force": {{
  "kept-error": 0.05,
  "kept-disagreement": 0.02
 }},
 "label_rules": [],
 "model_digest": "",
 "score": "max_probability",
 "score_histogram": {{
  "counts": [
   0,
   60,
   120
  ],
  "edges": [
   0.
  ]
 }},
 "temperature": 1.{_GRID}
   ],
   "data": "",
   "data_digest": "",
   "delta": 0.05,
   "guarantee": "probability",
   "n": 1200,
   "risk": "kept-disagreement",
   "steps": [{_STEP}
   ]
  }},
  {{
   "code_version": "0.1.0",
   "curve": [
    {{
     "errors": 0,
     "kept": 19,
     "threshold": 0.99
    }},
    {{
     "errors": 1,
     "kept": 38,
     "threshold": 0.98
    }},
    {{
     "errors": 0,
     "kept": 57,
     "threshold": 0.99
"""
DICTIONARY = zstandard.ZstdCompressionDict(_TEXT.encode(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
"""For decompressing a gate's target."""

_PARAMETERS = zstandard.ZstdCompressionParameters(
    compression_level=22,
    strategy=zstandard.STRATEGY_BTOPT,
    min_match=5,
    target_length=999,
    search_log=9,
    chain_log=20,
    hash_log=20,
    window_log=20,
)
"""What was found to make gates smallest: long rows of digits suit neither level 22's strategy nor its short matches."""


def packed_gate(document: bytes) -> bytes:
    """The gate target's bytes for a gate's document."""
    return zstandard.ZstdCompressor(compression_params=_PARAMETERS, dict_data=DICTIONARY).compress(document)
