#!/bin/sh
# Installs the broker, the browser and the rule checker that the tests talk to, where this user may; says what will be
# skipped where not.
set -u
missing=""
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null 2>&1 || missing="$missing mosquitto"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root="sudo"
    else
        echo "tests: without root or sudo these are not installed, tests that need them are skipped:$missing"
        exit 0
    fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests: no apt-get here, tests that need these are skipped:$missing"
    exit 0
fi
echo "tests: installing$missing"
$as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null || echo "tests: could not install$missing; tests that need them are skipped"
for service in mosquitto prometheus prometheus-node-exporter; do
    if [ -d /run/systemd/system ] && echo "$missing" | grep -q "${service%%-*}"; then
        $as_root systemctl disable --now "$service" >/dev/null 2>&1 || true
    fi
done
exit 0
