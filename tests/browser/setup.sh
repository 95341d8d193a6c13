#!/bin/sh
# Finds or installs what tests/test_browser*.py need, and writes the browser's path to node_modules/.browser, by which
# the tests know that they can run. Chromium, Node and npm come from Debian where they are not at hand; playwright-core
# and axe-core from npm, as package-lock.json pins them. THAW_CHROMIUM names another Chromium or Chrome.
set -eu
cd "$(dirname "$0")"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
  why=$(grep -E '^(E:|npm (ERR!|error))' "$log" | head -n 1 || true)
  echo "error: $1${why:+ ($why)}" >&2
  exit 1
}

browser() {
  if [ -n "${THAW_CHROMIUM:-}" ]; then
    command -v "$THAW_CHROMIUM" || { echo "error: THAW_CHROMIUM is $THAW_CHROMIUM, which cannot be run" >&2; exit 1; }
  else
    command -v chromium || command -v google-chrome || command -v google-chrome-stable || command -v chromium-browser
  fi
}

install() {
  as_root=$([ "$(id -u)" = 0 ] || echo "sudo -n")
  echo "installing $* (apt-get)"
  { $as_root apt-get update -q; $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
    -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 --no-install-recommends "$@"; } > "$log" 2>&1
}

missing=
[ -n "${THAW_CHROMIUM:-}" ] || browser > "$log" || missing="chromium fonts-dejavu-core"
command -v node > "$log" || missing="$missing nodejs"
command -v npm > "$log" || missing="$missing npm"
# shellcheck disable=SC2086 # a list of packages
[ -z "$missing" ] || install $missing ||
  fail "apt-get could not install ${missing# }; expected a network, and root or sudo; type make test-browser once they are there"
node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' ||
  fail "Node is $(node --version); expected 18 or newer; install it and type make test-browser"
found=$(browser)
if ! cmp -s package-lock.json node_modules/.lock; then
  npm ci --ignore-scripts --no-audit --no-fund > "$log" 2>&1 ||
    fail "npm could not install playwright-core and axe-core; expected a network; type make test-browser"
  cp package-lock.json node_modules/.lock
fi
echo "$found" > node_modules/.browser
