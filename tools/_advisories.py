"""pip-audit, for an index that has a page of each project and none of each version.

The advisories that pip-audit reads stand on the page of a version. A mirror may have the project's page only, which
says the same about the newest version: where the former is missing and the newest is asked for, the latter answers.
What is asked about any other version stays unanswered, and pip-audit says so.
"""

from __future__ import annotations

import re
import runpy
from typing import Any, Final

import requests

_VERSION: Final = re.compile(r"/(?P<version>[^/]+)/json$")
_get = requests.Session.get


def _get_or_newest(session: requests.Session, url: str, **options: Any) -> requests.Response:
    page = _get(session, url, **options)
    found = _VERSION.search(url)
    if page.status_code != requests.codes.not_found or found is None:
        return page
    newest = _get(session, url[: found.start()] + "/json", **options)
    told = newest.ok and newest.json()["info"]["version"] == found["version"]
    return newest if told else page


if __name__ == "__main__":
    requests.Session.get = _get_or_newest
    runpy.run_module("pip_audit", run_name="__main__")
