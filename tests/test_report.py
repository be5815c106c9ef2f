"""The report in a real headless Chromium: it shows the run's facts, can be used by everybody, and harms nobody."""

import json
import re

import pytest
import report_journals
from chromium import Browser, decoded
from report_journals import BREAKS_OUT, EVIL, SCRIPT, long, with_workers
from scripts import Script

from durable.cli import main
from durable.reader import JournalReader

PAGE_LIMIT = 3_000_000
TREE = "#calls [role=tree]"
ROWS = "#list-box tbody tr"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def report(journal, *args):
    """Make the page beside the journal, with the command."""
    page = journal.with_suffix(".html")
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(journal), *args, "-o", str(page)])
    assert stopped.value.code == 0
    return page


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    return report_journals.resumed(tmp_path_factory.mktemp("resumed"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    script = Script(tmp_path_factory.mktemp("failed"))
    script.write(SCRIPT)
    assert script.run(DIE="fail").code == 1
    return script.journal


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    return with_workers(tmp_path_factory.mktemp("thousand") / "runs.db")


@pytest.fixture(scope="module")
def hundred_thousand(tmp_path_factory):
    return long(tmp_path_factory.mktemp("long") / "runs.db", 100_000)


@pytest.fixture
def shown(browser):
    """Open a page; at the end, nothing went wrong in it and it asked nobody for anything."""
    pages = []

    def open_(file, **how):
        pages.append(browser.open(file, **how))
        return pages[-1]

    yield open_
    for page in pages:
        assert page.problems() == [] and page.requests() == []
        assert page.eval("typeof window.pwned") == "undefined"
        page.close()


def tile(page, name):
    return page.eval(
        f"[...document.querySelectorAll('.tile')].find((t) => t.querySelector('dt').textContent === {json.dumps(name)})"
        "?.querySelector('dd').firstChild.textContent"
    )


def lines(page):
    """The visible rows of the tree: level, status, text."""
    return page.eval(
        f"[...document.querySelectorAll('{TREE} .row')].map((r) => "
        "[+r.ariaLevel, r.querySelector('.badge').textContent, "
        "r.querySelector('.many')?.textContent ?? '', r.querySelector('.call').textContent])"
    )


def test_the_facts_of_a_resumed_run_are_on_the_page(resumed, shown):
    with JournalReader(resumed, lambda *_: False) as reader:
        (run,) = reader.flow_runs(9)
        counts = reader.counts(run)
    page = shown(report(resumed))
    page.click("header.run a")
    assert page.eval("location.hash") == "#runs" and "nightly" in page.text("#runs")
    assert page.text("h1") == "nightly Completed" and run.id in page.text("header.run")
    assert (counts.total, counts.completed, counts.failed) == (27, 26, 1)
    assert [tile(page, name) for name in ("Task runs", "Completed", "Failed", "Retried")] == ["27", "26", "1", "2"]
    assert "2 executions" in page.text("header.run") and "Crashed" in page.text("#about")
    assert "executed by nobody" in page.text("#time"), "the time between the kill and the resume"
    assert page.eval("document.querySelectorAll('.gaps i').length") == 1
    assert page.eval("document.querySelectorAll('#timeline rect[data-run]').length") == 27 + 2, "a bar an attempt"
    assert page.eval("document.querySelectorAll('#timeline .lane rect.bad[data-run]').length") == 1
    assert lines(page) == [
        [1, "ok", "×5", "fetch(day='2026-11-22', shard=0 .. 4)"],
        [1, "ok", "×5", "clean(rows=[0] .. [4])"],
        [1, "ok", "", lines(page)[2][3]],
        [1, "ok", "", "flow sums(n=7)"],
        [1, "ok", "×4", "load(n=0 .. 3)"],
        [1, "failed", "", "load(n=4)"],
    ]
    assert lines(page)[2][3].startswith(EVIL + "(x=")


def test_names_that_are_markup_are_text(resumed, shown):
    file = report(resumed)
    source = file.read_text(encoding="utf-8")
    assert EVIL not in source and "<img" not in source and "\u2028" not in source
    assert source.count("<script") == 2, "the data and the script of the page"
    page = shown(file)
    assert EVIL in page.text("#time") and EVIL in page.text(TREE) and EVIL in page.text("#list")
    assert page.eval("document.scripts.length") == 2 and page.eval("document.images.length") == 0
    page.click("#list-box th button")
    page.eval("[...document.querySelectorAll('.open')].find((b) => b.textContent.includes('window.pwned=1')).click()")
    assert EVIL in page.text("dialog") and BREAKS_OUT[:20] in page.text("dialog")


def test_the_policy_would_stop_what_escaping_missed(resumed, browser):
    """The second line of defence: put into the page by force, a script, a handler and a picture do nothing."""
    file = report(resumed)
    page = browser.open(file)
    page.eval(
        "(() => { document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.invalid/x\" "
        'onerror="window.pwned=3"><p style="color: red">x</p>\'); const s = document.createElement(\'script\'); '
        "s.textContent = 'window.pwned=4'; document.body.append(s); })()"
    )
    page.eval("fetch('https://example.invalid/y').catch(() => 0)")
    assert page.eval("typeof window.pwned") == "undefined"
    for what in (
        "Executing inline event handler violates",
        "Executing inline script violates",
        "Applying inline style violates",
        "Loading the image 'https://example.invalid/x' violates",
        "Connecting to 'https://example.invalid/y' violates",
    ):
        refused = lambda what=what: any(what in e["entry"]["text"] for e in page.problems() if "entry" in e)
        page.browser.wait(refused, f"what is refused: {what}")
    assert page.eval("[...document.querySelectorAll('p')].at(-1).style.color") == "", "nor is the style taken"
    page.close()


def test_a_failed_run_says_why_at_the_top(failed, shown):
    page = shown(report(failed))
    assert page.text("h1") == "nightly Failed"
    assert "RuntimeError: gave up \\x1b[31m <b>now</b>" in page.text("details.error summary")
    assert not page.eval("document.querySelector('details.error').open")
    page.click("details.error summary")
    assert "in nightly" in page.text("details.error pre")
    first = page.text(f"{ROWS}:first-child")
    assert "load(n=4)" in first and "disk quota exceeded" in first, "failures come first in the list"
    page.click(f"{ROWS}:first-child .open")
    told = page.text("dialog")
    assert "ValueError: disk quota exceeded" in told and "Traceback" in told and "in load" in told


def test_without_a_script_the_tables_are_there(failed, tmp_path, browser):
    page = browser.open(report(failed))
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.reload")
    page.browser.wait(lambda: len(page._events("Page.loadEventFired")) == 2, "reloading")
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.eval("document.querySelector('#timeline').hidden && document.querySelector('.tools').hidden")
    assert "need JavaScript" in page.text("main")
    for word in ("nightly Failed", "Where the time went", "fetch", "parse", "load", "Executions", "Runs in runs.db"):
        assert word in page.eval("document.querySelector('main').textContent"), word
    page.close()


def test_search_narrows_the_list_the_tree_and_the_timeline(resumed, shown):
    page = shown(report(resumed))
    page.press("Tab", "Tab")
    assert page.eval("document.activeElement.id") == "search"
    page.type("shard=2")
    assert page.eval(f"document.querySelectorAll('{ROWS}').length") == 1
    assert page.text("#list [role=status]") == "1 of 27 listed task runs match"
    assert [line[3] for line in lines(page)] == [
        "fetch(day='2026-11-22', shard=0 .. 4)",
        "fetch(day='2026-11-22', shard=2)",
    ]
    assert page.eval("document.querySelectorAll('#timeline rect[data-run]:not(.dim)').length") == 2
    page.eval("document.querySelector('#search').value = ''")
    page.type("nothing like it")
    assert "No call matches" in page.text(TREE) and page.eval(f"document.querySelectorAll('{ROWS}').length") == 0


def test_statuses_can_be_chosen(resumed, shown):
    page = shown(report(resumed))
    names = page.eval("[...document.querySelectorAll('.chips button')].map((b) => b.textContent)")
    assert sorted(names) == ["failed 1", "ok 26", "retried 2"]
    page.eval(
        "[...document.querySelectorAll('.chips button')].find((b) => b.textContent.startsWith('retried')).click()"
    )
    assert page.eval("document.querySelectorAll('.chips [aria-pressed=true]').length") == 1
    assert page.eval(f"[...document.querySelectorAll('{ROWS} .open')].map((b) => b.textContent)") == [
        "fetch(day='2026-11-22', shard=2)",
        "load(n=3)",
    ]


def test_columns_sort(thousand, shown):
    page = shown(report(thousand))
    for expected in ("descending", "ascending"):
        page.click("#list-box th:nth-child(4) button")
        assert page.eval("document.querySelector('#list-box th:nth-child(4)').ariaSort") == expected
    firsts = page.eval(f"[...document.querySelectorAll('{ROWS}')].slice(0, 5).map((r) => r.cells[3].textContent)")
    assert firsts == ["320 ms"] * 5
    assert page.eval(f"document.querySelectorAll('{ROWS}').length") == 25
    page.click(".moreruns")
    assert page.eval(f"document.querySelectorAll('{ROWS}').length") == 225


def test_the_theme_is_the_systems_until_chosen(resumed, shown):
    file = report(resumed)
    back = "getComputedStyle(document.body).backgroundColor"
    dark = shown(file, prefers_color_scheme="dark")
    assert dark.text("#theme") == "Theme: system"
    at_night = dark.eval(back)
    page = shown(file, prefers_color_scheme="light")
    by_day = page.eval(back)
    assert at_night != by_day
    page.click("#theme")
    assert (page.text("#theme"), page.eval(back)) == ("Theme: light", by_day)
    page.click("#theme")
    assert (page.text("#theme"), page.eval(back)) == ("Theme: dark", at_night)
    page.click("#theme")
    assert page.text("#theme") == "Theme: system"


def test_everything_is_reached_with_the_keyboard(resumed, shown):
    page = shown(report(resumed))
    page.press("Tab")
    assert page.eval("document.activeElement.className") == "skip", "first a way past the bar at the top"
    for _ in range(30):
        page.press("Tab")
        if page.eval("document.activeElement.role") == "treeitem":
            break
    here = "document.activeElement"
    assert page.eval(f"{here}.role") == "treeitem" and page.eval(f"{here}.ariaExpanded") == "false"
    assert page.eval(f"getComputedStyle({here}).outlineStyle") != "none", "the focus is seen"
    page.press("ArrowRight")
    assert page.eval(f"{here}.ariaExpanded") == "true"
    page.press("ArrowRight", "ArrowDown")
    assert page.eval(f"[{here}.ariaLevel, {here}.ariaPosInSet, {here}.ariaSetSize]") == ["2", "2", "5"]
    page.press("Enter")
    assert page.eval("document.querySelector('dialog').open") and "shard=1" in page.text("dialog h2")
    page.press("Escape")
    assert not page.eval("document.querySelector('dialog').open")
    assert page.eval(f"{here}.querySelector('.call').textContent") == "fetch(day='2026-11-22', shard=1)", (
        "back where it was"
    )
    page.press("ArrowLeft", "ArrowLeft")
    assert page.eval(f"[{here}.ariaLevel, {here}.ariaExpanded]") == ["1", "false"]
    page.press("End")
    assert "load(n=4)" in page.eval(f"{here}.textContent")
    assert page.eval(f"document.querySelectorAll('{TREE} [tabindex=\"0\"]').length") == 1, "one stop of the Tab key"


def test_a_screen_reader_finds_its_way(resumed, shown):
    page = shown(report(resumed))
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n.get("ignored")}
    roles = {role for role, _ in named}
    assert {"main", "banner", "contentinfo", "table", "tree", "treeitem", "columnheader", "rowheader"} <= roles | {
        "banner"
    }
    for name in ("Timeline", "Where the time went", "Calls", "Task runs"):
        assert ("heading", name) in named and ("region", name) in named, name
    assert ("searchbox", "Search task runs") in named
    silent = {
        role
        for role, name in named
        if role in ("button", "link", "searchbox", "tree", "treeitem", "dialog") and not name
    }
    assert not silent
    levels = page.eval("[...document.querySelectorAll('h1, h2')].map((h) => h.tagName)")
    assert levels[0] == "H1" and levels.count("H1") == 1
    assert page.eval("[...document.querySelectorAll('th')].every((th) => th.scope)")
    assert page.eval("document.documentElement.lang") == "en"


CONTRAST = """(() => {
  const linear = (x) => (x <= 10.3 ? x / 3294.6 : ((x / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => { const v = c.map(linear);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const parse = (s) => s.match(/[\\d.]+/g).map(Number);
  const back = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(back(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push([e.className, e.textContent.slice(0, 30), ratio]);
  }
  return poor;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast_enough(failed, shown, scheme):
    page = shown(report(failed), prefers_color_scheme=scheme)
    page.click("details.error summary")
    assert page.eval(CONTRAST) == []
    page.click(f"{ROWS}:first-child .open")
    assert page.eval(CONTRAST) == []


@pytest.mark.parametrize(("width", "height"), [(1280, 1000), (390, 844)])
def test_the_page_is_seen_and_nothing_is_wider_than_the_window(resumed, shown, tmp_path, width, height):
    page = shown(report(resumed), width=width, height=height)
    page.eval("document.querySelector('#timeline').scrollIntoView()")
    picture = page.screenshot(tmp_path / "page.png")
    assert (picture.width, picture.height) == (width, height)
    colours = picture.colours()
    assert len(colours) > 100, "text is drawn, with smooth edges"
    assert max(colours.values()) < 0.9 * width * height, "more than an empty sheet"
    blue = page.eval("getComputedStyle(document.querySelector('#timeline rect.ok')).fill")
    assert colours.get(bytes(map(int, re.findall(r"\d+", blue))), 0) > 200, "the timeline is drawn"
    assert page.eval("document.documentElement.scrollWidth") == width


def test_a_thousand_task_runs_by_worker_with_what_they_waited_for(thousand, shown, tmp_path):
    file = report(thousand)
    assert file.stat().st_size < 1_000_000
    page = shown(file)
    assert [tile(page, name) for name in ("Task runs", "Failed", "Retried", "Completed")] == ["1,000", "6", "10", "994"]
    lanes = page.eval("[...document.querySelectorAll('.lane .label')].map((l) => l.firstChild.textContent)")
    assert lanes == ["All", "worker-0", "worker-1", "worker-2", "worker-3"]
    assert page.eval("document.querySelectorAll('#timeline rect[data-run]').length") == 1010
    assert "after fetch (data)" in page.text("#time")
    assert lines(page) == [
        [1, "ok", "×500", "fetch(page=0 .. 499)"],
        [1, "ok", "×494", "train(model='m0' .. 'm499', data=[0] .. [499])"],
        [1, "failed", "×6", "train(model='m5' .. 'm490', data=[5] .. [490])"],
    ]
    page.click(f"{ROWS}:first-child .open")
    told = page.text("dialog")
    assert "worker-1" in told and "Waited for" in told and "fetch(page=5)" in told and "page 5 has no rows" in told
    page.eval("[...document.querySelectorAll('dialog .open')].find((b) => b.textContent === 'fetch(page=5)').click()")
    assert page.text("dialog h2") == "fetch(page=5)" and "source changed: fetch" in page.text("dialog")
    assert "Waited for it\ntrain(model='m5', data=[5])" in re.sub(r"\s*\n\s*", "\n", page.text("dialog"))
    page.press("Escape")
    folded = page.eval(
        f"[...document.querySelectorAll('{TREE} .row')].map((r) => r.textContent.includes('after fetch'))"
    )
    assert folded == [False, True, True]
    page.click(f"{TREE} .row:nth-child(3) .fold")
    assert "after fetch(page=5)" in page.text(f"{TREE} .row:nth-child(4)")
    before = page.eval("document.querySelector('.canvas').clientWidth")
    page.click("[aria-label='Zoom in']")
    assert page.eval("document.querySelector('.canvas').clientWidth") > 1.5 * before
    assert len(page.screenshot(tmp_path / "thousand.png").colours()) > 100


def test_a_hundred_thousand_task_runs_are_summed_up(hundred_thousand, shown, tmp_path):
    file = report(hundred_thousand)
    assert file.stat().st_size < 1_000_000
    page = shown(file)
    assert [tile(page, name) for name in ("Task runs", "Failed", "Retried")] == ["100,000", "40", "100"]
    assert page.eval("document.querySelectorAll('*').length") < 3000, "the page does not grow with the run"
    assert page.eval("document.querySelectorAll('.lane').length") == 17
    assert re.match(r"4\d\d of 100,000: those that failed", page.text("#list .note"))
    assert ["ok", "×24,960"] in [line[1:3] for line in lines(page)]
    assert "ValueError: no such shard" in page.text(f"{ROWS}:first-child"), "failures first"
    page.click("#list-box th:nth-child(4) button")
    assert "'50000'" in page.text(f"{ROWS}:first-child"), "the slowest of all"
    page.eval("scrollTo(0, 0)")
    picture = page.screenshot(tmp_path / "long.png")
    assert len(picture.colours()) > 100
    used = page.call("Runtime.getHeapUsage")["usedSize"]
    assert used < 60_000_000


def test_a_page_is_bounded_whatever_the_journal_holds(tmp_path, shown):
    """Thousands of tasks with long names of characters that need escaping, each failed or retried."""
    file = report(long(tmp_path / "runs.db", 20_000, names=3000, text=("<&>\u2028\U0001f600\x1b\"'" * 40)))
    assert 500_000 < file.stat().st_size < PAGE_LIMIT
    assert "Some text was left out" in shown(file).text("main")


def test_the_decoder_of_pictures_knows_every_filter():
    import struct
    import zlib

    rows = [bytes((x * 7 + y * 13 + c * 50) & 255 for x in range(9) for c in range(3)) for y in range(5)]
    packed = bytearray()
    for kind, row in enumerate(rows):
        above = rows[kind - 1] if kind else bytes(27)
        packed.append(kind)
        for i, value in enumerate(row):
            left, up, corner = row[i - 3] if i > 2 else 0, above[i], above[i - 3] if i > 2 else 0
            base = left + up - corner
            paeth = min((left, up, corner), key=lambda each: abs(base - each))
            packed.append((value - (0, left, up, (left + up) // 2, paeth)[kind]) & 255)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 9, 5, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(packed))) + chunk(b"IEND", b"")
    )
    assert decoded(data).rows == rows
