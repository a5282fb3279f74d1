"""Chromium without a screen, driven through its debugging pipe: no driver, no extra package."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import patience

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


class Page:
    """One tab. What a command throws in the page, or what the page logs as an error, is kept."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = os.fdopen(send, "wb", 0), os.fdopen(receive, "rb")
        self._number = 0
        self._session: str | None = None
        self._is_loaded = False
        self.errors: list[str] = []

    def attach(self) -> None:
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, url: str, size_wh: tuple[int, int] = (1300, 900), scheme: str = "light") -> None:
        width, height = size_wh
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])
        self._is_loaded = False
        self.command("Page.navigate", url=url)
        while not self._is_loaded:
            self._note(self._read())

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        result = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Return as soon as an expression is true in the page, at the next picture it draws."""
        check = f"() => ({condition}) ? done(true) : requestAnimationFrame(check)"
        self.run(f"new Promise((done) => {{ const check = {check}; check(); }})")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        result = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result["data"]))

    def close(self) -> None:
        self._send.close()
        self._receive.close()

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._receive.read(1)) != b"\0":
            assert byte, "the browser is gone"
            data += byte
        return json.loads(data)

    def _note(self, event: dict[str, Any]) -> None:
        self._is_loaded |= event.get("method") == "Page.loadEventFired"
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(event["params"]["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(event["params"]["entry"]["text"])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab in a browser of its own."""
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    script = f'exec "$0" "$@" 3<&{their_in} 4>&{their_out}'
    process = subprocess.Popen(
        ["bash", "-c", script, str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(their_in, their_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(their_in)
    os.close(their_out)
    page = Page(our_out, our_in)
    try:
        page.attach()
        yield page
    finally:
        page.close()  # the browser ends with its pipe
        process.wait(timeout=patience(20))
