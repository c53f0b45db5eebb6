#!/usr/bin/env bash
# Counts with valgrind the instructions that a message or a tick costs the server, everything but the kernel's part: the
# difference of a short and a long run, so that setting up falls out. Fails nothing; the figures are repeatable.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --locked --no-run --bench instructions
program=$(find "${CARGO_TARGET_DIR:-target}/release/deps" -name 'instructions-*' -type f -perm -u+x -printf '%T@ %p\n' |
    sort -n | tail -n 1 | cut -d ' ' -f 2)

instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# per WHAT SHORT LONG MESSAGES: instructions per message, of which a unit of the count has MESSAGES.
per() {
    local short long
    short=$(instructions "$1" "$2")
    long=$(instructions "$1" "$3")
    echo $(((long - short) / (($3 - $2) * $4)))
}

echo "instructions per 200-byte message sent (50 players): $(per send 4 40 50)"
echo "instructions per packet of inputs received:          $(per receive 100 400 1)"
tick=$(per tick 4 40 1)
recorded=$(per recorded 4 40 1)
echo "instructions per tick of 50 players, an input each:  $tick"
echo "the same recorded:                                   $recorded (+$(((recorded - tick) * 1000 / tick)) ‰)"
