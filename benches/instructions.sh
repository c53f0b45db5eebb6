#!/usr/bin/env bash
# Counts with valgrind the instructions that messages, ticks and joins cost the server, without the kernel's part, and
# compares them with benches/instructions.txt. A count repeats within 1 % with the same compiler, libraries and
# instruction set: then it fails where a row got more than 3 % dearer; elsewhere it prints the counts. With --write it
# writes the file instead. With ROW it counts this row alone, and leaves its profile in the target directory.
set -euo pipefail
source "$(dirname "$0")/../scripts/steps.sh"

figures=benches/instructions.txt
dearer_percent=3
counted=counted_by_callgrind

case "${1-}" in
'' | --write) mapfile -t rows < <(sed -n 's/^\([a-z]\+\) .*/\1/p' "$figures") ;;
-*) die "usage: benches/instructions.sh [--write | ROW]" ;;
*) rows=("$1") ;;
esac

require valgrind "install the package valgrind"
has_avx2=$(grep -m 1 -o -w avx2 /proc/cpuinfo || true)
counted_with="$(valgrind --version), $(rustc --version), $(getconf GNU_LIBC_VERSION), $(uname -m) $has_avx2"
target="$(target_directory)"
# The core alone: without the driver's dependencies it compiles in a fraction of the time.
program=$(cargo bench --locked --no-default-features --no-run --bench instructions --message-format json |
    node -e '
        const messages = require("fs").readFileSync(0, "utf8").trim().split("\n").map(line => JSON.parse(line));
        console.log(messages.find(({ executable, target }) => executable && target.name === "instructions").executable);')

# count ROW: its name and the instructions of a unit.
count() {
    local row=$1 output instructions units
    output=$(valgrind --tool=callgrind --callgrind-out-file="$target/callgrind.$row" --collect-atstart=no \
        --toggle-collect="*$counted*" "$program" "$row" 2>&1) || die "$output"
    instructions=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$output")
    units=$(sed -n 's/^units //p' <<<"$output")
    echo "$row $((instructions / units))"
}

export -f count die
export target counted program
measured=$(printf '%s\n' "${rows[@]}" | xargs -P "$(nproc)" -I '{}' bash -c 'count {}')

is_comparable=true
grep -qxF "# $counted_with" "$figures" || is_comparable=false
dearer=()
while read -r row before meaning; do
    after=$(sed -n "s/^$row //p" <<<"$measured")
    [[ -n $after ]] || continue
    printf '%-9s %9d, %9d in the file (%+.1f %%): %s\n' "$row" "$after" "$before" \
        "$(node -p "($after / $before - 1) * 100")" "$meaning"
    if ((after * 100 > before * (100 + dearer_percent))); then
        dearer+=("$row")
    fi
    if [[ ${1-} == --write ]]; then
        sed -i "s/^$row [0-9]* /$row $after /" "$figures"
    fi
done < <(grep '^[a-z]' "$figures")
if [[ ${1-} == --write ]]; then
    sed -i "s/^# valgrind.*/# $counted_with/" "$figures"
elif ((${#dearer[@]} > 0)); then
    list=${dearer[*]}
    if ! $is_comparable; then
        echo "NOT CHECKED: ${list// /, } got more than $dearer_percent % dearer, but the file's counts are of another machine"
    else
        die "${list// /, } got more than $dearer_percent % dearer; if that is its price, run benches/instructions.sh --write"
    fi
fi
