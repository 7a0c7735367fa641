"""A page in Chromium, spoken to over a pipe: what it logs and asks for, and what its DOM says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_EVENTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """A tab. ``requests``: addresses that it asked for; ``messages``: what its console got."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number, self._session, self._left = 0, "", b""
        self.requests: list[str] = []
        self.messages: list[Any] = []
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command of the devtools protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            got = self._next()
            if got.get("id") == self._number:
                assert "error" not in got, got
                found: dict[str, Any] = got["result"]
                return found

    def _next(self) -> dict[str, Any]:
        """The next message, noted if it is an event that is kept."""
        while b"\0" not in self._left:
            part = os.read(self._back, 1 << 16)
            assert part, "the browser has gone"
            self._left += part
        raw, _, self._left = self._left.partition(b"\0")
        got: dict[str, Any] = json.loads(raw)
        method = got.get("method", "")
        if method == "Network.requestWillBeSent":
            self.requests.append(got["params"]["request"]["url"])
        elif method in _EVENTS:
            self.messages.append(got["params"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        return got

    def open(self, path: Path, width: int, dark: bool = False, script: bool = True) -> None:
        """Show the file in a window of this width; its events from now on."""
        self.requests, self.messages, self.loaded = [], [], False
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Page.navigate", url=path.as_uri())
        while not self.loaded:
            self._next()

    def value(self, expression: str) -> Any:
        """What an expression of the page's script gives."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


@contextmanager
def browser(profile: Path) -> Iterator[Optional[Browser]]:
    """A browser with an empty profile; None where there is none."""
    if CHROMIUM is None:
        yield None
        return
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
    command += ["--remote-debugging-pipe", "about:blank"]
    shell = f'exec "$@" 3<&{to_read} 4>&{back_write}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(to_read, back_write),
    )
    os.close(to_read)
    os.close(back_write)
    try:
        yield Browser(to_write, back_read)
    finally:
        os.close(to_write)
        os.close(back_read)
        process.kill()
        process.wait()
