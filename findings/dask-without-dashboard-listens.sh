#!/usr/bin/env bash
# dask's local cluster without a dashboard listens on port 8787, and its workers on a port each.
#
# Guess:    `LocalCluster(dashboard_address=None)`, "Set to None to disable the dashboard", opens no port for HTTP.
# Versions: distributed 2026.8.0, psutil 7.1.3
# Instead:  it takes the default port 8787 on all interfaces and serves HTTP there, and each worker serves on a random port. What is off is
#           the dashboard's pages; /health, /info and /metrics answer.
# Means:    a second cluster of the machine warns that 8787 is taken, and a scan of ports finds servers that nobody asked
#           for. A port of one's own is `dashboard_address="127.0.0.1:0"` and `worker_dashboard_address`; servers
#           without anything to say need the config keys `distributed.{scheduler,worker}.http.routes: []`.
# Seen:     2026-11-30
#           8787 listens on ['0.0.0.0', '::'] and says 'ok' to /health; 1 worker serves HTTP on another port
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet distributed==2026.8.0 psutil==7.1.3
cd "$work"
venv/bin/python - <<'PY'
import urllib.request

import psutil
from distributed import LocalCluster

with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
    sockets = [one.laddr for one in psutil.Process().net_connections() if one.status == "LISTEN"]
    listening = {port: sorted(one.ip for one in sockets if one.port == port) for port in {one.port for one in sockets}}
    health = urllib.request.urlopen("http://127.0.0.1:8787/health").read().decode()
    others = [port for port in listening if port != 8787]
    served = 0
    for port in others:
        try:
            served += urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
        except Exception:
            pass
    print(f"8787 listens on {listening.get(8787)} and says {health!r} to /health; {served} worker serves HTTP on another port")
raise SystemExit(0 if 8787 in listening and health == "ok" and served == 1 else 1)
PY
