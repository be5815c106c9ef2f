"""docs/reference/: current, complete, and every link in it leads somewhere."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import durable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
try:
    import _reference
finally:
    sys.path.pop(0)

FOLDER = ROOT / "docs" / "reference"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}


def test_it_is_what_the_docstrings_say_today():
    assert _reference.pages() == PAGES, "run tools/docs"


@pytest.mark.parametrize("module", _reference.MODULES)
def test_every_public_name_is_on_its_modules_page(module):
    page = PAGES[_reference.page(module)]
    public = getattr(importlib.import_module(module), "__all__", None) or _reference.names(module)
    for name in _reference.MODULES[module] or public:
        assert page.count(f'<a id="{name}"></a>') == 1, f"{module}.{name}: run tools/docs"
    assert f"]({_reference.page(module)})" in PAGES["README.md"]


def test_every_name_of_the_package_is_explained_on_one_page():
    for name in durable.__all__:
        file, _, anchor = _reference.links()[name].partition("#")
        assert f'<a id="{anchor}"></a>' in PAGES[file]


def test_every_link_leads_somewhere():
    anchors = {name: set(re.findall(r'<a id="([^"]+)"></a>', text)) for name, text in PAGES.items()}
    links = [(name, *link) for name, text in PAGES.items() for link in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text)]
    assert len(links) > 100
    for page, file, anchor in links:
        assert file in {"", *PAGES}, (page, file)
        assert not anchor or anchor in anchors[file or page], (page, file, anchor)


def test_a_method_tells_how_it_is_called_and_what_it_raises():
    text = PAGES["futures.md"].partition('<a id="Future.result"></a>')[2].partition("###")[0]
    assert "def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R\n" in text
    assert "- `timeout`: seconds to wait for it at most." in text
    assert "[`UnfinishedRun`](errors.md#UnfinishedRun)" in text
    for submodule in ("submit", "map", "with_options", "on_failure"):
        assert f'<a id="Task.{submodule}"></a>' in PAGES["tasks.md"], "inherited methods are there"
    for engine in ("settled", "ended", "forget"):
        assert f'"Future.{engine}"' not in PAGES["futures.md"], "what durable calls is not"
