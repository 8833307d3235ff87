"""`cloud-service labels import`: true labels that an operator brings, for requests that were compared."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

from cloud_service.config import load_cloud_settings
from shared.errors import ConfigurationError

COLUMNS = ("device_id", "request_id", "label")
_LABELS_AT_ONCE = 1000


def add_label_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add them to the command line."""
    labels = commands.add_parser("labels", help="true labels of earlier answers").add_subparsers(required=True)
    parser = labels.add_parser("import", help="take in labels for requests that were escalated or audited")
    parser.add_argument("file", type=Path, help=f"CSV with the columns {', '.join(COLUMNS)}")
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument("--store", help="the store's SQLAlchemy URL")
    store.add_argument("--config", type=Path, help="cloud.toml, which names the store")
    parser.set_defaults(handler=_import)


def _import(options: argparse.Namespace) -> int:
    labels = read_labels(options.file)
    try:
        taken = import_labels(options.store or load_cloud_settings(options.config).storage_url(), labels)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"labels needs more packages: pip install 'tandem[cloud]' ({error})") from error
    lacking = len(labels) - taken
    sys.stdout.write(f"{taken} labels taken; {lacking} requests were not compared and are left out\n")
    return 0


def read_labels(file: Path) -> dict[tuple[str, str], str]:
    """By device and request: its label; the last one counts.

    Raises:
        ConfigurationError: the file cannot be read, lacks a column, or a row lacks a value; the text names the line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigurationError(f"{file}: there is no column {', '.join(missing)}")
            found = {}
            for row in reader:
                device_id, request_id, label = (row[name] for name in COLUMNS)
                if not device_id or not request_id or not label:
                    raise ConfigurationError(f"{file}, line {reader.line_num}: a value is missing")
                found[device_id, request_id] = label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from error
    return found


def import_labels(url: str, labels: dict[tuple[str, str], str]) -> int:
    """Write the labels of requests that have a comparison; how many these are.

    Raises:
        NotReady: the store is not set up.
        StorageError: the store cannot be used.
    """
    from cloud_service.cases.comparison import labelled_by_import
    from cloud_service.storage.case_reader import CaseReader
    from cloud_service.storage.case_store import CaseStore
    from cloud_service.storage.engine import open_engine
    from cloud_service.storage.transactions import open_durable_engine

    reader, store = CaseReader(open_engine(url, writes=False)), CaseStore(open_durable_engine(url))
    try:
        compared = reader.find(list(labels))
        received_s = int(time.time())
        rows = [labelled_by_import(found, labels[key], received_s) for key, found in compared.items()]
        for start in range(0, len(rows), _LABELS_AT_ONCE):
            store.add_labels(rows[start : start + _LABELS_AT_ONCE])
    finally:
        reader.close()
        store.close()
    return len(rows)
