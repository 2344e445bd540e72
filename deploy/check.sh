#!/usr/bin/env bash
# Checks everything in deploy/ with its own tool. A tool that is not there is named and its check
# skipped; with CI=true that is a failure.
# shellcheck disable=SC2317  # functions are called by name
set -euo pipefail
cd "$(dirname "$0")"

failed=0
missing=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run NAME COMMAND...: prints one line, and the command's output when it fails.
run() {
    local name=$1 log=$work/log
    shift
    if "$@" >"$log" 2>&1; then
        echo "ok    $name"
    else
        echo "FAIL  $name"
        sed 's/^/      /' "$log"
        failed=1
    fi
}

# have NAME TOOL: whether the check called NAME can be made.
have() {
    if command -v "$2" >/dev/null; then return 0; fi
    echo "SKIP  $1: $2 is not installed"
    missing+=("$2")
    return 1
}

# Units name programs that are installed elsewhere: the copies that are checked name a stand-in.
units() {
    local unit
    printf '#!/bin/sh\n' >"$work/program"
    chmod +x "$work/program"
    for unit in systemd/*.service; do
        sed "s#/usr/local/bin/weft-[a-z]*#$work/program#" "$unit" >"$work/$(basename "$unit")"
    done
    systemd-analyze verify --man=no "$work"/*.service >"$work/verify" 2>&1 || return 1
    # Warnings, an unknown key among them, end with success.
    if [[ -s $work/verify ]]; then
        cat "$work/verify"
        return 1
    fi
}

# exposure UNIT LIMIT: systemd's own rating, in tenths of a point, 100 being the worst.
exposure() {
    systemd-analyze security --offline=true --threshold="$2" "$work/$1"
}

compose() {
    WEFT_NODE=check "$@" -f compose/compose.yaml config --quiet
}

if have "shell scripts" shellcheck; then
    run "shell scripts" shellcheck -x check.sh ../.ci/run ../.ci/tools.sh
fi
if have "systemd units" systemd-analyze; then
    run "systemd units" units
    run "exposure of the agent's unit, at most 3.3" exposure weft-agent.service 33
    run "exposure of the aggregator's unit, at most 1.3" exposure weft-aggregator.service 13
fi
if docker compose version >/dev/null 2>&1; then
    run "compose file" compose docker compose
elif have "compose file" docker-compose; then
    run "compose file" compose docker-compose
fi
if have "container file" dockerfile-utils; then
    run "container file" dockerfile-utils lint Containerfile
fi
if have "kubernetes resources" kubernetes-validate; then
    run "kubernetes resources" kubernetes-validate --strict --quiet \
        kubernetes/namespace.yaml kubernetes/aggregator.yaml kubernetes/agent.yaml
fi
if have "kustomization" kubectl; then
    run "kustomization" kubectl kustomize kubernetes
fi
if have "prometheus" promtool; then
    run "prometheus config" promtool check config prometheus/prometheus.yml
    run "prometheus rules" promtool test rules prometheus/tests/weft.yml
    if have "grafana dashboards" python3; then
        run "grafana dashboards" grafana/check.py grafana/dashboards/*.json
    fi
fi

if ((${#missing[@]})); then
    echo "not checked for want of: ${missing[*]}"
    if [[ ${CI:-} == true ]]; then failed=1; fi
fi
exit "$failed"
