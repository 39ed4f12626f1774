"""A real headless Chromium for tests of pages, driven through its DevTools: clicks, keys, messages and requests as a user has them."""

import asyncio
import base64
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

KEYS = {"Enter": 13, " ": 32, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def chromium_path() -> str:
    """The program; skips the test where there is none and none is required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        assert os.environ.get("INVAD_BROWSER") != "required", "no chromium in PATH"
        pytest.skip("no chromium in PATH")
    return found


@contextmanager
def browser(folder: Path) -> Iterator["Browser"]:
    """A browser with one empty tab; its profile lies in `folder`."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-extensions"]
    flags += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
    flags += ["--hide-scrollbars", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen([chromium_path(), *flags], stdout=log, stderr=log)
    loop = asyncio.new_event_loop()
    try:
        tab = Browser(loop)
        loop.run_until_complete(tab.connect(_port(process, folder)))
        yield tab
        loop.run_until_complete(tab.session.close())
    finally:
        loop.close()
        process.terminate()
        process.wait(20)


def _port(process: subprocess.Popen, folder: Path) -> int:
    for _ in range(300):
        assert process.poll() is None, (folder / "chromium.log").read_text()
        active = folder / "profile" / "DevToolsActivePort"
        if active.exists() and (lines := active.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.1)
    raise AssertionError((folder / "chromium.log").read_text())


class Browser:
    """One tab. messages: console messages and errors; requests: addresses that the page asked for, its own among them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.number = loop, 0
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.loaded = False

    async def connect(self, port: int) -> None:
        self.session = aiohttp.ClientSession()
        async with self.session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            (target,) = [item for item in await answer.json() if item["type"] == "page"]
        self.socket = await self.session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network", "Security"):
            await self._call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        return self.loop.run_until_complete(asyncio.wait_for(self._call(method, **params), 30))

    async def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json()
            if message.get("id") == self.number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(item.get("value", item)) for item in params["args"]))
        elif event == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Page.loadEventFired":
            self.loaded = True

    def open(self, address: str) -> None:
        """Load a page and wait until it is there."""
        self.messages.clear()
        self.requests.clear()
        self.loaded = False
        self.call("Page.navigate", url=address)
        for _ in range(300):
            if self.loaded:
                return
            time.sleep(0.02)
            self.call("Page.getLayoutMetrics")  # whose answer comes after the events so far
        raise AssertionError(f"{address} did not load")

    def run(self, script: str) -> Any:
        """What a script of the body of a function returns, run in the page."""
        expression = f"(async () => {{ {script} }})()"
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def look(self, width: int, height: int = 900, scheme: str = "light", scripts: bool = True) -> None:
        """Set the size and the colour scheme of the screen, and whether scripts of the page run after the next load."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def click(self, selector: str) -> None:
        """Click in the middle of the first element that the selector finds."""
        self.click_at(*self._middle(selector))

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _middle(self, selector: str) -> tuple[float, float]:
        box = self.run(
            f"const found = document.querySelector({selector!r}); found.scrollIntoView({{block: 'center', inline: 'center'}});"
            "const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2];"
        )
        return box[0], box[1]

    def press(self, key: str, times: int = 1, modifiers: int = 0) -> None:
        """Press a key on whatever has the focus. modifiers: 8 is Shift."""
        rest = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": KEYS[key],
            "modifiers": modifiers,
        }
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **rest, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **rest)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Save what is on the screen, or the whole page, as PNG."""
        result = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        result = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(result["data"]))
