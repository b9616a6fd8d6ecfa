"""A headless Chromium by its DevTools protocol: what a page asked for, what it complained of, how it looks."""

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-port=0",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--proxy-server=127.0.0.1:9",
)  # fmt: skip
PATIENCE_S = 60


def found() -> str | None:
    """Return a browser's path; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One open page; `complaints` are lines of the console and exceptions, `requests` what it asked for."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    number: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events on the way are kept."""
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            said = json.loads((await asyncio.wait_for(self.socket.receive(), PATIENCE_S)).data)
            if said.get("id") == self.number:
                assert "error" not in said, said
                return dict(said["result"])
            self._noted(said)

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript, awaiting a promise, and return its value."""
        done = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def opened(self, address: str, width: int = 1240, height: int = 900) -> None:
        """Go to an address and wait until its charts are drawn."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Page.navigate", url=address)
        drawn = "document.readyState === 'complete' && document.body.dataset.drawn === 'yes'"
        for _ in range(10 * PATIENCE_S):
            if await self.value(drawn):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the charts were not drawn; {self.complaints}")

    async def click(self, selector: str) -> None:
        """Click in the middle of an element as a mouse does."""
        middle = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        x, y = await self.value(middle)
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        await self.value("new Promise((done) => setTimeout(done, 200))")

    async def picture(self, clip: tuple[int, int, int, int] | None = None) -> bytes:
        """Return a picture (PNG) of what is seen, or of a part of the page (x, y, width, height)."""
        part = {}
        if clip is not None:
            x, y, width, height = clip
            part = {"clip": {"x": x, "y": y, "width": width, "height": height, "scale": 1}}
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True, **part)
        return base64.b64decode(shot["data"])

    def _noted(self, said: dict[str, Any]) -> None:
        parameters = said.get("params", {})
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if said.get("method") in {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}:
            self.complaints.append(json.dumps(parameters)[:500])


@asynccontextmanager
async def browsing() -> AsyncIterator[Page]:
    """Start a browser of our own and open a page in it; it is ended when the context is left."""
    program = found()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program, *FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                yield Page(await _socket(session, Path(profile) / "DevToolsActivePort"))
        finally:
            process.terminate()
            await process.wait()


async def _socket(session: aiohttp.ClientSession, told: Path) -> aiohttp.ClientWebSocketResponse:
    port = ""
    for _ in range(10 * PATIENCE_S):
        if port := _port(told):
            break
        await asyncio.sleep(0.1)
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [each for each in await answer.json() if each["type"] == "page"]
    return await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)


def _port(told: Path) -> str:
    return told.read_text().partition("\n")[0] if told.exists() else ""
