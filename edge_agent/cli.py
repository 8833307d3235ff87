"""The `edge-agent` command. What each subcommand needs is imported when it runs, so that starting is quick."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Coroutine, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import anyio

from shared import __version__
from shared.errors import ConfigurationError, TandemError

if TYPE_CHECKING:
    from edge_agent.config import AgentSettings

T = TypeVar("T")
_BEGAN_S = monotonic()
_DEFAULT_CONFIG = Path("agent.toml")
_USAGE_ERROR = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code is 0, or 1 for a bad result, or 2 for an error that is told in one line."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except TandemError as error:
        print(f"edge-agent: {error}", file=sys.stderr)  # noqa: T201
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _run(options: argparse.Namespace) -> int:
    from edge_agent.agent import Agent
    from edge_agent.config import load_agent_settings
    from shared.logs import set_up_logging
    from shared.tracing import traced

    set_up_logging(options.log_level)
    settings = load_agent_settings(options.config)

    async def serve() -> None:
        await Agent(settings).run(_BEGAN_S)

    with traced(settings.tracing, "tandem-edge", settings.device_id):
        _on_event_loop(serve())
    return 0


def _infer(options: argparse.Namespace) -> int:
    item = {"text": options.text, "model": options.model, "route": options.route, "top_k": options.top_k}
    if options.deadline_ms is not None:
        item["deadline_ms"] = options.deadline_ms
    answer = _ask(options.url, item) if options.url else _answer_here(options, item)
    _print_json(answer)
    return 1 if "error" in answer else 0


def _doctor(options: argparse.Namespace) -> int:
    from edge_agent.doctor import Status, examine, render
    from shared.clock import SystemClock

    async def report() -> int:
        checks = await examine(options.config, SystemClock())
        if options.json:
            _print_json([check.to_json() for check in checks])
        else:
            print(render(checks))  # noqa: T201
        return int(any(check.status is Status.FAIL for check in checks))

    return _on_event_loop(report())


def _bench(options: argparse.Namespace) -> int:
    from edge_agent.bench import measure_bundle, render_figures, render_table
    from edge_agent.probing import record_probes
    from shared.clock import SystemClock
    from shared.latency_table import require_writable, write_latency_table

    how = (options.threads, options.rounds, options.tokens, SystemClock())
    if options.record is None:
        figures = measure_bundle(options.path, *how)
        print(json.dumps(figures.to_json(), indent=2) if options.json else render_figures(figures))  # noqa: T201
        return 0
    require_writable(options.record)
    table = record_probes(options.path, *how)
    write_latency_table(options.record, table)
    print(render_table(table, options.record))  # noqa: T201
    return 0


def _answer_here(options: argparse.Namespace, item: dict[str, object]) -> dict[str, object]:
    from edge_agent.agent import open_pipeline
    from edge_agent.answers import error_json
    from edge_agent.http_schema import parse_item
    from shared.clock import SystemClock

    settings = _settings_for(options)

    async def answer() -> dict[str, object]:
        async with open_pipeline(settings, SystemClock()) as pipeline:
            try:
                return (await pipeline.answer(parse_item(item))).to_json()
            except TandemError as error:
                return error_json(error, None)

    return _on_event_loop(answer())


def _settings_for(options: argparse.Namespace) -> AgentSettings:
    from edge_agent.config import AgentSettings, ModelSettings, load_agent_settings

    if options.bundle:
        return AgentSettings(device_id="here", models=(ModelSettings(bundle=options.bundle),))
    return load_agent_settings(options.config)


def _ask(url: str, item: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310
        url.rstrip("/") + "/v1/infer", json.dumps(item).encode(), {"Content-Type": "application/json"}
    )
    if request.type not in ("http", "https"):
        raise ConfigurationError(f"--url {url}: must begin with http:// or https://")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: dict[str, object] = json.load(response)
    except urllib.error.HTTPError as error:
        answer = json.load(error)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--url {url}: no agent answers there: {error}") from error
    return answer


def _on_event_loop(work: Coroutine[object, object, T]) -> T:
    async def run() -> T:
        return await work

    return anyio.run(run, backend_options={"use_uvloop": True})


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))  # noqa: T201


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part.strip()) for part in text.split(","))


def _threads(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent", description="Answers on this device, asks the cloud when unsure."
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve HTTP until SIGTERM or Ctrl-C")
    run.add_argument("--config", type=Path, default=_DEFAULT_CONFIG)
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    run.set_defaults(run=_run)

    infer = commands.add_parser("infer", help="answer one text and print the answer as JSON")
    infer.add_argument("text")
    source = infer.add_mutually_exclusive_group()
    source.add_argument("--config", type=Path, default=_DEFAULT_CONFIG, help="load this agent's models here")
    source.add_argument("--bundle", type=Path, help="load the bundle in this folder here, without a cloud")
    source.add_argument("--url", help="ask a running agent, as http://127.0.0.1:8070")
    infer.add_argument("--model")
    infer.add_argument("--route", choices=("auto", "edge", "cloud"), default="auto")
    infer.add_argument("--deadline-ms", type=int)
    infer.add_argument("--top-k", type=int, default=3)
    infer.set_defaults(run=_infer)

    doctor = commands.add_parser("doctor", help="check model, broker, cloud, clock and disk, and say what to do")
    doctor.add_argument("--config", type=Path, default=_DEFAULT_CONFIG)
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)

    bench = commands.add_parser("bench", help="time a bundle on this device, or a probe kit into a latency table")
    bench.add_argument("path", type=Path, metavar="BUNDLE|PROBES")
    bench.add_argument("--record", type=Path, metavar="TABLE.json", help="PROBES is a probe kit; write its times here")
    bench.add_argument("--threads", type=_threads, default=1, help="0: one a core")
    bench.add_argument("--rounds", type=_count, default=50)
    bench.add_argument("--tokens", type=_counts, default=(16, 32, 64), metavar="N,N,...")
    bench.add_argument("--json", action="store_true", help="a bundle's figures for programs")
    bench.set_defaults(run=_bench)
    return parser
