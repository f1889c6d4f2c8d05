"""A real headless Chromium, driven over its DevTools protocol: as much of it as the tests need."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.eventually import eventually

_NAMES: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS: Final = (
    "--headless",
    "--no-sandbox",  # tests may run as root, in containers without user namespaces
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_START_S: Final = 20.0
_ANSWER_S: Final = 15.0


def find_chromium() -> str | None:
    """The program, if this machine has it. `CHROMIUM` names another one."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """A tab. `complaints`: what its console was told of errors, refusals of the Content-Security-Policy included."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self.session = session
        self.complaints: list[str] = []

    async def send(self, method: str, **params: Any) -> Any:
        """A command of the protocol."""
        return await self._browser.send(method, params, self.session)

    async def begin(self) -> None:
        """Tell what happens in it."""
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.size(1280, 900)

    def heard(self, method: str, params: Any) -> None:
        """An event of this tab."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("text", "") + str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def ask(self, expression: str) -> Any:
        """What an expression comes to, awaited if it is a promise."""
        said = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in said:
            raise AssertionError(f"{expression}: {said['exceptionDetails']}")
        return said["result"].get("value")

    async def until(self, expression: str, within_s: float = 10.0) -> Any:
        """Wait until it is true."""

        async def look() -> Any:
            try:
                return await self.ask(expression)
            except (AssertionError, ConnectionError):  # the page is just being replaced
                return None

        try:
            return await eventually(look, bool, within_s=within_s)
        except AssertionError:
            text = await self.ask("location.href + '\\n' + document.body.innerText")
            raise AssertionError(f"never true: {expression}; the page is\n{text}") from None

    async def click(self, selector: str) -> None:
        """With the mouse, where it is seen."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        x, y = await self.ask(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            " it.scrollIntoView({block: 'center'}); const box = it.getClientRects()[0];"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def fill(self, selector: str, text: str) -> None:
        """Type into an input, in place of what it holds."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.ask(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.focus(); it.select?.(); }})()"
        )
        await self.send("Input.insertText", text=text)

    async def choose(self, selector: str, value: str) -> None:
        """An option of a select."""
        await self.until(f"!!document.querySelector({json.dumps(selector)})")
        await self.ask(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.value = {json.dumps(value)};"
            " it.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    async def press(self, key: str) -> None:
        """A key, such as Tab or Escape."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9}
        text = {"text": "\r"} if key == "Enter" else {}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    async def size(self, width: int, height: int) -> None:
        """The window's."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def prefer(self, scheme: str) -> None:
        """What the system prefers: light or dark."""
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """A screenshot of what is seen, or of the whole page."""
        said = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(said["data"])
        assert data.startswith(b"\x89PNG")
        await asyncio.to_thread(path.write_bytes, data)

    async def text(self, selector: str = "body") -> str:
        """What is read there."""
        said: str = await self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return said


class Browser:
    """The running browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    async def send(self, method: str, params: dict[str, Any], session: str | None = None) -> Any:
        """A command, and its result."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        to = {} if session is None else {"sessionId": session}
        await self._socket.send_json({"id": number, "method": method, "params": params, **to})
        async with asyncio.timeout(_ANSWER_S):
            return await future

    async def listen(self) -> None:
        """Until the browser ends."""
        async for message in self._socket:
            said = message.json()
            future = self._waiting.pop(said.get("id", 0), None)
            if future is not None and not future.done():
                if "error" in said:
                    future.set_exception(AssertionError(str(said["error"])))
                else:
                    future.set_result(said["result"])
            elif (page := self._pages.get(said.get("sessionId", ""))) is not None:
                page.heard(said["method"], said["params"])

    async def page(self) -> Page:
        """A new tab."""
        target = await self.send("Target.createTarget", {"url": "about:blank"})
        attached = await self.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        await page.begin()
        return page


@asynccontextmanager
async def chromium(program: str, folder: Path) -> AsyncIterator[Browser]:
    """A browser that keeps its files in `folder`."""
    process = await asyncio.to_thread(_start, program, folder)
    try:
        url = await eventually(
            lambda: asyncio.to_thread(_address, process, folder / "DevToolsActivePort"), bool, within_s=_START_S
        )
        async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=64 << 20) as socket:
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                listening.cancel()
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def _start(program: str, folder: Path) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [program, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"], stdout=quiet, stderr=quiet
    )


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    """Where it listens, as it writes into its folder; empty: not yet."""
    assert process.poll() is None, f"Chromium ended with {process.returncode}"
    lines = said.read_text().splitlines() if said.exists() else []
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else ""
