"""The card that goes with each bundle: what it is, from what data, under which licence, and how well it does."""

from __future__ import annotations

from cloud_service.compression.config import ModelConfig, ShapeConfig
from cloud_service.compression.dataset import Splits
from cloud_service.compression.figures import TYPICAL_TOKENS, Figures, GateFigures
from shared.gate import Certificate, Gate

DATA_SECTION = """## Data

BANKING77: questions of online-banking customers with 77 intents, by PolyAI, from I. Casanueva, T. Temčinas,
D. Gerz, M. Henderson and I. Vulić, "Efficient Intent Detection with Dual Sentence Encoders", 2020
(arXiv 2003.04807; github.com/PolyAI-LDN/task-specific-datasets), licensed CC BY 4.0. The questions were lower-cased
and split into word pieces; rewritten copies of them (words left out, typing errors, two questions spliced)
were used without labels.

| part | questions | used for |
|---|---|---|
| train | {train} of `train.csv` | weights and vocabulary |
| validation | {validation} of `train.csv`, stratified | early stop, temperature, choice of score |
| calibration | {calibration} of `train.csv`, drawn at random | the gate's certificate, nothing else |
| test | {test}, all of `test.csv` | the figures below, nothing else |

`train.csv` has intents in unequal shares, `test.csv` in equal ones: the certificate holds for questions that come
as in `train.csv`.
"""

LICENSE_SECTION = """## Licence and attribution

The weights are licensed Apache-2.0. The word embeddings began as those of `sentence-transformers/all-MiniLM-L6-v2`
(Apache-2.0), which, fine-tuned, was also the teacher; the word pieces are a part of its vocabulary. The training
data is CC BY 4.0 (above). The architecture is ERNIE-4.5's as the transformers library defines it; no weights of
ERNIE-4.5 are used.
"""


def full_card(config: ModelConfig, splits: Splits, figures: Figures) -> str:
    """The full model's card."""
    plan, measured = config.full, figures.full
    return "\n".join(
        [
            f"# {config.name} {plan.version}, full model\n",
            f"{_shape(plan.shape, measured.parameters)} FP16 on disk, computed in FP32. The cloud runs it.\n",
            _figures_table(config, figures),
            f"The fine-tuned teacher reaches {figures.teacher_accuracy:.2%} on the test part.\n",
            _data(splits),
            LICENSE_SECTION,
            _rebuild(config),
        ]
    )


def edge_card(config: ModelConfig, splits: Splits, figures: Figures, gate: Gate) -> str:
    """The edge model's card, with what its gate promises."""
    plan, measured = config.edge, figures.edge
    return "\n".join(
        [
            f"# {config.name} {plan.version}, edge model\n",
            f"{_shape(plan.shape, measured.parameters)} Pruned from the full model, taught by it and its teacher, "
            "then INT8: signed weights with a scale per channel (7 bits, so that CPUs with and without VNNI compute "
            "the same integers), activations quantized as they come, embeddings with a scale per row.\n",
            _figures_table(config, figures),
            f"Before INT8 the edge model reaches {figures.edge_before_int8_accuracy:.2%} on the test part.\n",
            _gate_section(figures, gate),
            _data(splits),
            LICENSE_SECTION,
            "## Limits\n\nEnglish only: other scripts fall apart into characters that it never learnt, and a confident "
            "answer to them means nothing. Run each text alone: dynamic INT8 scales a whole batch at once.\n",
            _rebuild(config),
        ]
    )


def _shape(shape: ShapeConfig, parameters: int) -> str:
    return (
        f"An ERNIE-4.5 classifier: {shape.layers} layers of width {shape.hidden_size}, {shape.attention_heads} heads "
        f"in {shape.key_value_heads} groups, feed-forward {shape.ffn_size}; {parameters / 1e6:.1f} million parameters."
    )


def _figures_table(config: ModelConfig, figures: Figures) -> str:
    full, edge = figures.full, figures.edge
    rows = [
        ("accuracy, test part", f"{full.accuracy:.2%}", f"{edge.accuracy:.2%}"),
        ("graph and weights, MB", f"{full.size_bytes / 1e6:.1f}", f"{edge.size_bytes / 1e6:.1f}"),
        (
            f"multiply-accumulates of {TYPICAL_TOKENS} tokens, millions",
            f"{full.multiply_accumulates / 1e6:.1f}",
            f"{edge.multiply_accumulates / 1e6:.1f}",
        ),
        ("time a text, one thread, side by side in one run", "1", f"{edge.latency_ms / full.latency_ms:.2f}"),
    ]
    head = f"## Figures\n\n| | full {config.full.version} | edge {config.edge.version} (INT8) |\n|---|---|---|\n"
    return head + "".join(f"| {what} | {one} | {two} |\n" for what, one, two in rows)


def _gate_section(figures: Figures, gate: Gate) -> str:
    force = ", ".join(f"{risk.value} at most {alpha:.1%}" for risk, alpha in gate.in_force.items())
    lines = [
        "## Gate\n",
        f"Score: {gate.score.value} at temperature {gate.temperature:.3f}. In force at first: {force}. Learn then "
        f"Test (arXiv 2110.01052): with probability {1 - gate.certificates[0].delta:.0%} all steps of a table hold.\n",
        f"On the test part, what is in force: {_kept(figures.gate)}\n",
    ]
    return "\n".join([*lines, *(_certificate_table(certificate) for certificate in gate.certificates)])


def _kept(figures: GateFigures) -> str:
    return (
        f"{figures.offload:.1%} escalated; of the kept answers {figures.kept_error:.2%} are wrong and "
        f"{figures.kept_disagreement:.2%} differ from the full model's; in the end "
        f"{figures.cascade_accuracy:.2%} are right."
    )


def _certificate_table(certificate: Certificate) -> str:
    head = (
        f"\n{certificate.risk.value}, calibration part, n = {certificate.n}:\n\n"
        "| at most | threshold | kept | wrong | upper bound | escalated |\n|---|---|---|---|---|---|\n"
    )
    rows = [
        f"| {step.alpha:.1%} | {step.threshold:.4f} | {step.kept} | {step.errors} | {step.risk_bound:.2%} "
        f"| {step.expected_offload:.1%} |\n"
        if step.threshold is not None
        else f"| {step.alpha:.1%} | none certified | | | | 100% |\n"
        for step in certificate.steps
    ]
    return head + "".join(rows)


def _data(splits: Splits) -> str:
    return DATA_SECTION.format(
        train=f"{len(splits.train):,}",
        validation=f"{len(splits.validation):,}",
        calibration=f"{len(splits.calibration):,}",
        test=f"{len(splits.test):,}",
    )


def _rebuild(config: ModelConfig) -> str:
    return (
        "## Rebuild\n\n`cloud-service model train deploy/demo/models.toml` (with the extras `cloud` and `compress`, "
        f"and the data set in `../shared/datasets` or where `TANDEM_DATASETS` points; seed {config.seed}). Another CPU "
        "or another version of torch rounds otherwise, so the figures may differ a little.\n"
    )
