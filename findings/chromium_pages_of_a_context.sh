#!/usr/bin/env bash
# A test opens a browser context in headless Chromium, and two blank pages in it.
# A good guess: nothing runs beside these pages; a headless browser has no address bar.
# Seen: with the first page of each context, Chromium loads two pages for the list below an address bar that nobody sees,
# and keeps them (kind "browser_ui"; the features WebUIOmniboxPopup and WebUIOmniboxAimPopup switch them off).
. "$(dirname "$0")/common.sh"
command -v chromium >/dev/null || cannot "there is no chromium"
case $(chromium --version 2>/dev/null) in *" 156.0.8078.114"*) ;; *) cannot "it was seen with Chromium 156.0.8078.114" ;; esac
python_with websockets==16.0
python_runs <<'EOF'
import asyncio
import json
import re
import subprocess
import tempfile

import websockets
from finding import as_described

PATIENCE = 60  # seconds
COMMAND = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "about:blank"]


class Browser:
    def __init__(self, connection):
        self.connection, self.sent = connection, 0

    async def call(self, method, **parameters):
        self.sent += 1
        await self.connection.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await asyncio.wait_for(self.connection.recv(), PATIENCE))
            if answer.get("id") == self.sent:
                return answer["result"]

    async def targets(self, context, expected):
        """The kinds of a context's targets, sorted, as soon as there are as many as expected."""
        for _ in range(PATIENCE):
            found = (await self.call("Target.getTargets", filter=[{}]))["targetInfos"]
            kinds = sorted(each["type"] for each in found if each.get("browserContextId") == context)
            if len(kinds) >= expected:
                break
            await asyncio.sleep(1)
        return kinds


async def main(address):
    async with websockets.connect(address, max_size=None) as connection:
        browser = Browser(connection)
        print((await browser.call("Browser.getVersion"))["product"])
        context = (await browser.call("Target.createBrowserContext"))["browserContextId"]
        as_described("an empty context", await browser.targets(context, 0), [])
        own = ["browser_ui", "browser_ui"]
        for pages in (1, 2):
            await browser.call("Target.createTarget", url="about:blank", browserContextId=context)
            described = [*own, *["page"] * pages, *["tab"] * pages]
            as_described(f"with {pages} of our pages", await browser.targets(context, len(described)), described)
        await browser.call("Browser.close")


with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    chromium = subprocess.Popen([*COMMAND, f"--user-data-dir={profile}"], stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in chromium.stderr if (found := re.search(r"ws://\S+", line)))
        asyncio.run(main(address))
    finally:
        chromium.terminate()
        chromium.wait(PATIENCE)
EOF
