"""What `/v1/infer` and `/v1/labels` take and give, and the OpenAPI document that says so.

Requests are checked against these models. Answers are written as plain dicts, which costs less; tests hold
them to the models.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from edge_agent.answers import InferenceRequest
from edge_agent.labelling import LabelClaim
from shared import __version__
from shared.codec import MAX_REQUEST_ID_CHARACTERS
from shared.errors import InputError
from shared.types import MAX_LABEL_CHARACTERS, RequestedRoute

Schema = dict[str, object]
MAX_KEY_CHARACTERS = 128
_Body = TypeVar("_Body", bound=BaseModel)


class InferBody(BaseModel):
    """One text to answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(description="What to classify; Unicode.")
    model: str | None = Field(None, description="Which model answers; the device's first unless said.")
    request_id: str | None = Field(
        None, min_length=1, max_length=MAX_REQUEST_ID_CHARACTERS, description="Yours, or one is made up."
    )
    key: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        description="Whose request it is, a customer or a session: an A/B test answers all of a key with one release. "
        "It stays on the device. The request id stands for it unless said.",
    )
    route: Literal["auto", "edge", "cloud"] = Field("auto", description="auto: the gate decides.")
    deadline_ms: int | None = Field(None, ge=1, le=600_000, description="From arrival to answer.")
    top_k: int = Field(3, ge=1, le=1000, description="How many labels to list.")


class LabelBody(BaseModel):
    """The true label of an earlier request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: str = Field(min_length=1, max_length=MAX_REQUEST_ID_CHARACTERS, description="As the answer said it.")
    label: str = Field(
        min_length=1, max_length=MAX_LABEL_CHARACTERS, description="One of the model's, or another: out of its scope."
    )
    model: str | None = Field(None, description="Which model answered; only needed where several did.")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LabelScoreBody(_Answer):
    """One label and its probability."""

    label: str
    score: float


class ModelBody(_Answer):
    """The model that answered; on route cloud the full one."""

    name: str
    version: str
    digest: str


class GateBody(_Answer):
    """What the device's gate looked at; it keeps where score ≥ threshold. Null: it escalates everything."""

    name: str
    score: float
    threshold: float | None


class TimingsBody(_Answer):
    """Milliseconds. `cloud` is the round trip; the three cloud figures are there where the cloud was asked."""

    total: float
    preprocess: float
    queue: float
    inference: float
    cloud: float | None = None
    cloud_queue: float | None = None
    cloud_compute: float | None = None


class AnswerBody(_Answer):
    """One answer. `degraded`: the cloud was needed and not had, and this is the device's own answer."""

    request_id: str
    outcome: Literal["edge", "cloud", "degraded"]
    route: Literal["edge", "cloud"]
    label: str
    confidence: float
    top: list[LabelScoreBody]
    reason: str
    model: ModelBody
    gate: GateBody
    timings_ms: TimingsBody


class LabelReceiptBody(_Answer):
    """What the device had answered itself. `taken` false: this label was told before; `kept`: its gate was sure."""

    request_id: str
    model: str
    taken: bool
    label: str
    edge_label: str
    kept: bool
    agrees: bool


class FaultBody(_Answer):
    """What went wrong: a code for programs and a message for people."""

    code: str
    message: str
    retry_after_ms: int | None = None


class ErrorBody(_Answer):
    """A request without an answer."""

    request_id: str | None
    outcome: Literal["rejected", "failed"]
    error: FaultBody


def parse_item(item: object) -> InferenceRequest:
    """One request from parsed JSON.

    Raises:
        InputError: it is not as `InferBody` says; the text names the fields.
    """
    body = _validated(InferBody, item)
    return InferenceRequest(
        body.text, body.model, body.request_id, RequestedRoute(body.route), body.deadline_ms, body.top_k, body.key
    )


def parse_claim(item: object) -> LabelClaim:
    """One true label from parsed JSON.

    Raises:
        InputError: it is not as `LabelBody` says; the text names the fields.
    """
    body = _validated(LabelBody, item)
    return LabelClaim(body.request_id, body.label, body.model)


def _validated(kind: type[_Body], item: object) -> _Body:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'the request'}: {_problem(fault['type'], fault['msg'])}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise InputError("; ".join(faults)) from error


def openapi() -> Schema:
    """The OpenAPI 3.1 document of the agent's HTTP interface."""
    _, definitions = models_json_schema(
        [(body, "validation") for body in (InferBody, AnswerBody, LabelBody, LabelReceiptBody, ErrorBody)],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tandem edge agent", "version": __version__, "description": _DESCRIPTION},
        "paths": {
            "/v1/infer": {"post": _infer_operation()},
            "/v1/labels": {"post": _labels_operation()},
            "/livez": {"get": _plain("The process runs", {"200": "It does."})},
            "/readyz": {"get": _plain("Requests are taken", {"200": "They are.", "503": "Starting or draining."})},
            "/metrics": {"get": _plain("Counts and latencies for Prometheus", {"200": "Prometheus text format."})},
        },
        "components": {"schemas": definitions["$defs"]},
    }


_DESCRIPTION = (
    "Answers texts on this device, and asks the cloud where the gate is not sure. "
    "A list answers item by item: each item is an answer or an error, in the order asked, and the status is 200."
)
_REFUSALS = {
    "404": "No such model on this device.",
    "413": "The body, or the list, is too large.",
    "422": "The request cannot be served as it is; the message names the field.",
    "429": "No room; the Retry-After header says when to come again.",
    "500": "The engine failed.",
    "503": "Starting or draining.",
    "504": "The deadline passed.",
}

_LABEL_REFUSALS = {
    "404": "The request was not answered here, or is forgotten by now.",
    "409": "Another true label was told for it before; the first one stands.",
    "413": "The body, or the list, is too large.",
    "422": "The label cannot be taken as it is; the message names the field.",
    "429": "Too many labels wait for the cloud; the Retry-After header says when to come again.",
    "503": "Starting, or the device's answers cannot be read.",
}


def _infer_operation() -> Schema:
    refusals = {status: _response(text, _ref("ErrorBody")) for status, text in _REFUSALS.items()}
    answer: Schema = {"anyOf": [_ref("AnswerBody"), _ref("ErrorBody")]}
    return {
        "summary": "Answer one text, or a list of texts",
        "operationId": "infer",
        "requestBody": {"required": True, "content": _json(_one_or_list(_ref("InferBody"), _ref("InferBody")))},
        "responses": {"200": _response("The answer, or a list of them.", _one_or_list(_ref("AnswerBody"), answer))}
        | refusals,
    }


def _labels_operation() -> Schema:
    refusals = {status: _response(text, _ref("ErrorBody")) for status, text in _LABEL_REFUSALS.items()}
    receipt: Schema = {"anyOf": [_ref("LabelReceiptBody"), _ref("ErrorBody")]}
    return {
        "summary": "Tell the true label of an earlier request, or a list of them",
        "operationId": "labels",
        "requestBody": {"required": True, "content": _json(_one_or_list(_ref("LabelBody"), _ref("LabelBody")))},
        "responses": {
            "200": _response("A receipt, or a list of them.", _one_or_list(_ref("LabelReceiptBody"), receipt))
        }
        | refusals,
    }


def _one_or_list(one: Schema, item: Schema) -> Schema:
    return {"anyOf": [one, {"type": "array", "items": item}]}


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": _json(schema)}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _plain(summary: str, responses: dict[str, str]) -> Schema:
    return {"summary": summary, "responses": {status: {"description": text} for status, text in responses.items()}}


def _problem(kind: str, message: str) -> str:
    return "unknown field" if kind == "extra_forbidden" else message
