"use strict";
// Shows /openapi.json and sends one request; needs nothing from the network but this agent.

const $ = (id) => document.getElementById(id);

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return schema.type ?? "any";
}

function table(rows) {
  const made = element("table");
  for (const row of rows) made.append(element("tr", "", ...row.map((cell) => element("td", cell))));
  return made;
}

function showPath(path, operations) {
  for (const [method, operation] of Object.entries(operations)) {
    const label = element("span", method.toUpperCase());
    label.className = "method";
    const summary = element("summary", "", label, " ", element("code", path), ` ${operation.summary}`);
    const responses = Object.entries(operation.responses).map(([code, response]) => [
      code,
      response.description,
      response.content?.["application/json"] ? typeOf(response.content["application/json"].schema) : "",
    ]);
    $("paths").append(element("details", "", summary, table(responses)));
  }
}

function showSchema(name, schema) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([field, one]) => [
    field + (required.has(field) ? "" : "?"),
    typeOf(one),
    [one.description, one.default == null ? "" : `Default ${JSON.stringify(one.default)}.`].filter(Boolean).join(" "),
  ]);
  const summary = element("summary", "", element("code", name), ` ${schema.description ?? ""}`);
  $("schemas").append(element("details", "", summary, table(fields)));
}

async function show() {
  const api = await (await fetch("/openapi.json")).json();
  $("title").textContent = `${api.info.title} ${api.info.version}`;
  $("description").textContent = api.info.description;
  for (const [path, operations] of Object.entries(api.paths)) showPath(path, operations);
  for (const [name, schema] of Object.entries(api.components.schemas)) showSchema(name, schema);
}

async function send() {
  const began = performance.now();
  try {
    const response = await fetch("/v1/infer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: $("request").value,
    });
    const answer = await response.json();
    $("status").textContent = `${response.status}, ${(performance.now() - began).toFixed(1)} ms`;
    $("answer").textContent = JSON.stringify(answer, null, 2);
  } catch (error) {
    $("status").textContent = `no answer: ${error.message}`;
  }
}

$("send").addEventListener("click", send);
show();
