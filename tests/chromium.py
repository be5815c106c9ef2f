"""A real headless Chromium for the tests, driven over the DevTools protocol on a pipe; and PNG files, decoded."""

import base64
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DEADLINE = 60.0  # seconds until a test gives up on an answer
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --disable-extensions --no-default-browser-check "
    "--hide-scrollbars --force-color-profile=srgb --remote-debugging-pipe"
).split()

# The protocol wants descriptors 3 and 4: first out of each other's way, then there.
MOVE = """
import fcntl, os, sys
high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 50) for each in sys.argv[1:3]]
for wanted, each in zip((3, 4), high):
    os.dup2(each, wanted)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def found() -> str:
    """The browser; a test that needs it is skipped where there is none, but fails in CI."""
    name = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if name is None:
        why = f"no browser: none of {', '.join(NAMES)} is on PATH. tools/chromium installs it, or set CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return name


class Browser:
    """One process of Chromium with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = [sys.executable, "-c", MOVE, str(to_browser), str(from_browser), found(), *FLAGS]
        command += [f"--user-data-dir={folder}", "about:blank"]
        self._log = folder / "browser.log"
        homes = dict.fromkeys(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(folder))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                pass_fds=(to_browser, from_browser),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **homes},
            )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._last = 0
        self._answers: dict[int, Any] = {}
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        wanted = self._last
        self.wait(lambda: wanted in self._answers, method)
        answer = self._answers.pop(wanted)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def wait(self, done: Any, what: str) -> None:
        """Take in messages until `done`."""
        deadline = time.monotonic() + DEADLINE
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, f"no answer to {what}"
            if select.select([self._read], [], [], left)[0]:
                chunk = os.read(self._read, 1 << 20)
                assert chunk, f"the browser ended before it answered {what}: {self._log.read_text(errors='replace')}"
                self._buffer += chunk
                *messages, self._buffer = self._buffer.split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self.events.append(message)

    def open(self, file: Path, width: int = 1280, height: int = 900, **media: str) -> "Page":
        """A new tab with a file, loaded. `media`: features such as ``prefers_color_scheme="dark"``."""
        return Page(self, file, width, height, {name.replace("_", "-"): value for name, value in media.items()})


class Page:
    """One tab. What went wrong in it, and what it asked the network for, is in `problems` and `requests`."""

    def __init__(self, browser: Browser, file: Path, width: int, height: int, media: dict[str, str]) -> None:
        self.browser = browser
        self.url = file.as_uri()
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.target = target
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in media.items()])
        self.call("Page.navigate", url=self.url)
        browser.wait(lambda: self._events("Page.loadEventFired"), f"loading {self.url}")

    def call(self, method: str, **parameters: Any) -> Any:
        return self.browser.call(method, self.session, **parameters)

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def _events(self, *names: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self.browser.events if e.get("sessionId") == self.session and e["method"] in names]

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """What a person sees of an element."""
        return str(self.eval(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click where an element is, with a mouse."""
        x, y = self.eval(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); "
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)
        # The page waits for a pause in typing: two frames after it, the page has answered.
        self.eval(
            "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 120))"
        )

    def press(self, *keys: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for key in keys:
            text = {"Enter": "\r", " ": " "}.get(key)
            common: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
            self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, file: Path, *, whole: bool = False) -> "Picture":
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))
        return decoded(file.read_bytes())

    def problems(self) -> list[Any]:
        """Errors on the console, exceptions, and what the security policy refused."""
        return [
            *self._events("Runtime.exceptionThrown"),
            *(e for e in self._events("Runtime.consoleAPICalled") if e["type"] in ("error", "warning", "assert")),
            *(e for e in self._events("Log.entryAdded") if e["entry"]["level"] in ("error", "warning")),
        ]

    def requests(self) -> list[str]:
        """Every address that was asked for, but the page's own."""
        urls = [e["request"]["url"] for e in self._events("Network.requestWillBeSent")]
        return [url for url in urls if url != self.url]

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)


class Picture(NamedTuple):
    """A decoded picture: rows of pixels, three bytes each."""

    width: int
    height: int
    rows: list[bytes]

    def colours(self) -> dict[bytes, int]:
        """How many pixels each colour has."""
        counted: dict[bytes, int] = {}
        for row in self.rows:
            for i in range(0, len(row), 3):
                pixel = row[i : i + 3]
                counted[pixel] = counted.get(pixel, 0) + 1
        return counted


def decoded(data: bytes) -> Picture:
    """A PNG of eight bits a channel, as Chromium writes them."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, width, height, channels = 8, b"", 0, 0, 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + length)[0]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and colour in (2, 6) and not interlaced
            channels = 3 if colour == 2 else 4
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    raw, stride = zlib.decompress(packed), width * channels
    rows, above = [], bytearray(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        _unfilter(kind, line, above, channels)
        rows.append(bytes(line) if channels == 3 else b"".join(line[i : i + 3] for i in range(0, stride, 4)))
        above = line
    return Picture(width, height, rows)


def _unfilter(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    for i in range(len(line)):
        left = line[i - step] if i >= step else 0
        up = above[i]
        corner = above[i - step] if i >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        elif kind == 4:
            base = left + up - corner
            guess = min((abs(base - left), 0, left), (abs(base - up), 1, up), (abs(base - corner), 2, corner))[2]
        else:
            return
        line[i] = (line[i] + guess) & 255
