from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud_service.access.roles import Role
from cloud_service.dashboard.site import Site
from cloud_service.storage.action_store import ActionLog, Wanted
from shared.gate import Risk
from tests.support.site import OWN, add_user, csrf_of, sign_in, site_over, sqlite_url, talk_to
from tests.support.watched_gates import WatchedGates

pytestmark = pytest.mark.anyio
CHOICE = {"action": "set", "alpha.kept-error": "0.03", "alpha.kept-disagreement": "0.03", "reason": "complaints"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = site_over(sqlite_url(tmp_path))
    add_user(site, "olga", Role.OPERATOR)
    add_user(site, "vera", Role.VIEWER)
    yield site
    site.close()


@pytest.fixture
def field(site: Site) -> WatchedGates:
    """A gate, a ring of two devices, audits and an alarm."""
    field = WatchedGates(site.writing, site.now_ms() // 1000)
    field.add_gate()
    field.add_device("press-1", "canary")
    field.add_device("press-2", "canary")
    field.add_requests("canary", 1000, 200, 40)
    field.add_audits("canary", 800, 40)
    field.add_alarm("canary")
    return field


async def confirmed(client: httpx.AsyncClient, field: WatchedGates, **changes: str) -> httpx.Response:
    """What the page for confirmation answers to a choice."""
    return await post(client, "/risk/confirm", {**CHOICE, "gate": field.gate.digest, "ring": "canary", **changes})


async def post(client: httpx.AsyncClient, path: str, fields: dict[str, str]) -> httpx.Response:
    page = (await client.get("/risk")).text
    return await client.post(path, data={**fields, "csrf": csrf_of(page)}, headers=OWN)


def fields_of(page: str) -> dict[str, str]:
    """The hidden fields of the form that confirms, and a reason."""
    form = page[page.index('action="/risk/apply"') :]
    return {**dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)), "reason": "complaints"}


async def test_the_page_shows_what_holds_and_what_audits_found(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/risk?ring=canary")).text
    assert "40 of 800 audits" in page and "2 online" in page
    assert "200 of 1,000" in page and "kept-error ≤ 5.0%" in page
    assert "240 cloud requests per 1,000" in page
    assert "critical: always escalated" in page
    assert "Alarm: disagreement in ring canary" in page


async def test_a_choice_is_confirmed_in_plain_words_before_anything_is_written(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        page = (await confirmed(client, field)).text
    assert "Kept error: at most 3.0% instead of 5.0%." in page
    assert "Promised with probability at least 90.0%: error among kept answers at most 3.0%." in page
    assert not field.policies()


async def test_what_is_confirmed_is_issued_and_logged_together(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        answer = await post(client, "/risk/apply", fields_of((await confirmed(client, field)).text))
        assert answer.status_code == 303
        page = (await client.get(answer.headers["location"])).text
    (issued,) = field.policies()
    assert (issued.ring, issued.published_s, issued.policy.issued_by) == ("canary", None, "olga")
    assert issued.policy.in_force == {"kept-error": 0.03, "kept-disagreement": 0.03}
    (entry,) = ActionLog(site.reading).read(Wanted(10, action="gate.policy"))
    assert issued.policy.policy_id in entry.entry.detail and "complaints" in entry.entry.detail
    assert 'data-value="asked"' in page and "has not reported it yet" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha.kept-error": "0.04"}, "not certified"),
        ({"alpha.kept-error": "0.005"}, "no threshold is certified"),
        ({"alpha.luck": "0.05"}, "no risk"),
        ({"alpha.kept-error": "nan"}, "not certified"),
        ({"alpha.kept-error": "five"}, "no number"),
        ({"least_threshold": "0.1"}, "looser than"),
        ({"least_threshold": "inf"}, "no number"),
        ({"audit_percent": "150"}, "no share"),
        ({"cap_percent": "20"}, "an offload cap needs"),
        ({"budget.kept-error": "0.05"}, "needs an offload cap"),
        ({"cap_percent": "20", "budget.kept-error": "0.04"}, "not certified"),
        ({"action": "loosen"}, "none of"),
        ({"gate": "0" * 64}, "not known"),
        ({"ring": "nowhere"}, "no ring"),
    ],
)
async def test_what_is_not_certified_is_refused_and_nothing_is_written(
    site: Site, field: WatchedGates, changes: dict[str, str], words: str
) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        fields = fields_of((await confirmed(client, field)).text)
        for path in ("/risk/confirm", "/risk/apply"):
            answer = await post(client, path, {**fields, **changes})
            assert answer.status_code == 422
            assert words in answer.text.lower()
    assert not field.policies()
    assert not ActionLog(site.reading).read(Wanted(10, action="gate.policy"))


async def test_stricter_than_certified_audits_and_a_budget_go_with_the_choice(site: Site, field: WatchedGates) -> None:
    changes = {"least_threshold": "0.995", "audit_percent": "10", "cap_percent": "20", "budget.kept-error": "0.05"}
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        page = (await confirmed(client, field, **changes)).text
        await post(client, "/risk/apply", fields_of(page))
    (issued,) = field.policies()
    policy = issued.policy
    assert (policy.least_threshold, policy.audit_share, policy.offload_cap) == (0.995, 0.1, 0.2)
    assert policy.budget_in_force == {"kept-error": 0.05}
    assert "reason=budget" in page and "Never kept below a score of 0.995" in page


async def test_to_escalate_all_keeps_the_rest_and_to_go_back_drops_it(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        for action in ("set", "escalate_all", "bundle"):
            page = (await confirmed(client, field, action=action)).text
            await post(client, "/risk/apply", fields_of(page))
    chosen, emergency, own = (issued.policy for issued in field.policies())
    assert emergency.escalate_all and emergency.in_force == chosen.in_force
    assert not own.escalate_all and own.in_force == {}
    assert chosen.sequence < emergency.sequence < own.sequence


async def test_loosening_against_an_open_alarm_is_said(site: Site, field: WatchedGates) -> None:
    loose = {"alpha.kept-error": "0.1", "alpha.kept-disagreement": "0.1"}
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        page = (await confirmed(client, field, **loose)).text
    assert "Looser: kept from a score" in page and "An alarm of this ring is still open" in page


async def test_a_confirmation_that_was_overtaken_or_has_no_reason_is_refused(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        stale = fields_of((await confirmed(client, field)).text)
        assert (await post(client, "/risk/apply", {**stale, "reason": " "})).status_code == 422
        assert (await post(client, "/risk/apply", stale)).status_code == 303
        again = await post(client, "/risk/apply", stale)
    assert again.status_code == 422 and "has changed since" in again.text
    assert len(field.policies()) == 1


async def test_an_alarm_is_acknowledged_once_with_what_was_found(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "olga")
        assert "have seen it" in (await client.get("/risk/alarm?id=alarm1")).text
        fields = {"id": "alarm1", "reason": "a new product"}
        assert (await post(client, "/risk/alarm", fields)).status_code == 303
        assert (await post(client, "/risk/alarm", fields)).status_code == 422
        assert (await client.get("/risk/alarm?id=none")).status_code == 404
        page = (await client.get("/risk")).text
    assert "Acknowledged by olga" in page and "Alarm: disagreement" not in page
    assert len(ActionLog(site.reading).read(Wanted(10, action="gate.acknowledge"))) == 1


async def test_a_viewer_may_neither_ask_nor_apply_nor_acknowledge(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        for path in ("/risk/confirm", "/risk/apply", "/risk/alarm"):
            assert (
                await post(client, path, {**CHOICE, "gate": field.gate.digest, "ring": "canary"})
            ).status_code == 403
    assert not field.policies()


async def test_without_a_gate_the_page_says_what_to_do(site: Site) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        assert "edge_bundles" in (await client.get("/risk")).text
        field = WatchedGates(site.writing, site.now_ms() // 1000)
        field.add_device("press-1", report=field.report(digest="", in_force={}, threshold=None))
        assert "bring no gate" in (await client.get("/risk")).text
        field.add_device("press-2", report=field.report(digest="e" * 64))
        assert "e" * 12 in (await client.get("/risk")).text
        field.add_gate()
        page = (await client.get("/risk")).text
        assert "No audits yet" in page and "Gates not known here" in page
        assert "This gate is not known here" in (await client.get(f"/risk?gate={'0' * 64}")).text


async def test_a_choice_is_part_of_the_address(site: Site, field: WatchedGates) -> None:
    async with talk_to(site) as client:
        await sign_in(client, "vera")
        page = (await client.get("/risk?ring=canary&alpha.kept-error=0.02&alpha.kept-disagreement=oops")).text
    threshold = field.gate.certificate(Risk.KEPT_ERROR).step(0.02).threshold
    assert f'data-figure="chosen_threshold">{threshold:.4g}<' in page
