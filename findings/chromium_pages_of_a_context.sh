#!/usr/bin/env bash
# A test opens a browser context in headless Chromium, and one blank page in it.
# A good guess: the context costs one page.
# Seen: Chromium loads two pages of its own beside it, for the list below the address bar that nobody sees; each context
# gets two more, with its first page. The feature names below, which switch them off, stand in no list of switches.
. "$(dirname "$0")/common.sh"
browser=$(command -v chromium || command -v google-chrome) || cannot "there is no chromium"
export BROWSER=$browser
case $("$browser" --version 2>/dev/null) in *" 156."*) ;; *) cannot "it was seen with Chromium 156" ;; esac
END
sed -n 25,70p ../tests/browser/conftest.py; cat > /dev/null <<'END'
