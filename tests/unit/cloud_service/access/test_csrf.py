from __future__ import annotations

import pytest

from cloud_service.access.csrf import form_token, is_own_token, is_same_origin

HOST = {"host": "page.example:8090"}


def test_a_token_belongs_to_one_cookie() -> None:
    token = form_token("one")
    assert is_own_token("one", token)
    assert not is_own_token("two", token) and not is_own_token("one", token[:-1]) and not is_own_token("one", "é")
    assert len(token) == 64 and "one" not in token


def test_without_a_cookie_no_token_is_right() -> None:
    assert form_token("") == "" and not is_own_token("", "")


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"origin": "http://page.example:8090"}, True),
        ({"origin": "http://PAGE.example:8090", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://page.example:8090"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://page.example"}, False),
        ({"origin": "http://page.example:8090.evil.example"}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://page.example:8090", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://page.example:8090", "sec-fetch-site": "same-site"}, False),
        ({"origin": "http://page.example:8090", "sec-fetch-site": "none"}, False),
    ],
)
def test_only_what_the_browser_says_comes_from_this_page_is_believed(headers: dict[str, str], is_own: bool) -> None:
    assert is_same_origin({**HOST, **headers}, is_tls=False) is is_own


def test_under_tls_a_page_in_clear_is_another_site() -> None:
    assert not is_same_origin({**HOST, "origin": "http://page.example:8090"}, is_tls=True)
    assert is_same_origin({**HOST, "origin": "https://page.example:8090"}, is_tls=True)
