#!/usr/bin/env bash
# rtcade and other servers side by side: installs, builds, runs all of it, and writes results.json and comparison.svg.
# With --quick: some minutes instead of about half an hour, to quick.json, which is not kept. With --bench: the task by
# `rtcade bench` instead, against all that it speaks to, about fifteen minutes, to bench.json.
# --only=rtcade,bun and --parts=loss,outage,wire,steady measure some of it, and --output=FILE puts it elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

for tool in cargo node npm; do
    command -v "$tool" >/dev/null || die "$tool is missing"
done
# The bad link is made of network namespaces and TUN devices: a superuser's, or one's own in a user namespace.
if ((EUID != 0)) && [[ -z ${PEERS_NAMESPACE:-} ]] && unshare --user --map-root-user true 2>/dev/null; then
    PEERS_NAMESPACE=1 exec unshare --user --map-root-user "./$(basename "${BASH_SOURCE[0]}")" "$@"
fi
for tool in unshare nsenter ip; do
    command -v "$tool" >/dev/null || echo "$tool is missing: no loss, no outage and no bytes will be measured" >&2
done
command -v openssl >/dev/null || echo "openssl is missing: no server with TLS will be measured" >&2
command -v taskset >/dev/null || echo "taskset is missing: server and clients will share the cores" >&2

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --locked --release
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci
ulimit -n "$(ulimit -Hn)"

if [[ " $* " == *" --bench "* ]]; then
    cargo build --locked --release --manifest-path ../../Cargo.toml --bin rtcade
    exec node bench.mjs
fi

results=results.json
[[ " $* " == *" --quick "* ]] && results=quick.json
for argument; do [[ $argument == --output=* ]] && results=${argument#--output=}; done
node run.mjs "$@"
node table.mjs "$results"
[[ $results != results.json ]] || node plot.mjs
