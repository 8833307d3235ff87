from __future__ import annotations

from dataclasses import replace

from cloud_service.rollout.inbox import Heard, ReportInbox
from shared import topics
from shared.mqtt import Message
from shared.update.codec import encode_report
from shared.update.report import UpdateReport
from tests.support.rollout_parts import MODEL, NOW_S, a_report


def said(report: UpdateReport, *, by: str = "", model: str = MODEL) -> Message:
    return Message(topics.reported(by or report.device_id, model), encode_report(report), retained=False)


def reports(heard: list[Heard]) -> list[UpdateReport]:
    return [each.report for each in heard]


def test_only_the_newest_word_of_a_device_waits() -> None:
    inbox = ReportInbox(10)
    newer = a_report("d1", sequence=2)
    for report in (a_report("d1"), newer, a_report("d1"), a_report("d2")):
        inbox.take_in(said(report), NOW_S)
    assert reports(inbox.drain()) == [newer, a_report("d2")]
    assert inbox.drain() == []


def test_another_boot_is_newer_whatever_its_number() -> None:
    inbox = ReportInbox(10)
    reborn = replace(a_report("d1", sequence=1), boot_id="boot-2")
    inbox.take_in(said(a_report("d1", sequence=9)), NOW_S)
    inbox.take_in(said(reborn), NOW_S)
    assert reports(inbox.drain()) == [reborn]


def test_what_is_said_for_another_device_or_cannot_be_read_is_dropped_and_counted() -> None:
    inbox = ReportInbox(10)
    inbox.take_in(said(a_report("d1"), by="d2"), NOW_S)
    inbox.take_in(said(a_report("d1"), model="other"), NOW_S)
    inbox.take_in(Message(topics.reported("d1", MODEL), b"\xff", retained=False), NOW_S)
    inbox.take_in(Message(topics.reported("d1", MODEL), b"", retained=True), NOW_S)
    assert inbox.drain() == []
    assert inbox.statistics().dropped == {"wrong_speaker": 2, "malformed": 1, "empty": 1}


def test_what_could_not_be_written_comes_back_behind_what_is_newer() -> None:
    inbox = ReportInbox(2)
    inbox.take_in(said(a_report("d1")), NOW_S)
    inbox.take_in(said(a_report("d2")), NOW_S)
    assert inbox.is_full
    unwritten = inbox.drain()
    newer = a_report("d1", sequence=2)
    inbox.take_in(said(newer), NOW_S)
    inbox.put_back(unwritten)
    assert reports(inbox.drain()) == [newer, a_report("d2")]
