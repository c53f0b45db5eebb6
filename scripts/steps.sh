# shellcheck shell=bash
# Sourced by the scripts beside it.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# step TITLE COMMAND...: runs a command and prints how long it took or that it failed.
step() {
    local title=$1 start=$SECONDS status=0
    shift
    say "$title"
    # In a subshell of its own, or `set -e` would not hold inside functions called from a condition.
    set +e
    (set -e; "$@")
    status=$?
    set -e
    if ((status != 0)); then
        printf '\nFAILED: %s (%d s): %s\n' "$title" $((SECONDS - start)) "$*" >&2
        exit "$status"
    fi
    printf -- '--- %s: %d s\n' "$title" $((SECONDS - start))
}

require() {
    command -v "$1" >/dev/null || die "$1 is missing; $2"
}

# install PACKAGE ADVICE: a Debian package, with the advice for where there are none.
install() {
    require apt-get "$2"
    local sudo=()
    if ((EUID != 0)); then
        require sudo "$2"
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get update
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$1"
}

# cargo_tool NAME VERSION [OPTION...]: installs a program from crates.io into $tools unless there is one.
cargo_tool() {
    local name=$1 version=$2
    shift 2
    command -v "$name" && return
    echo "Installing $name into $tools (compiles for some minutes, once)"
    # Unoptimised it takes a second longer, and it compiles in half the time.
    CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug --root "$tools" --version "$version" "$@" "$name"
}

require_node() {
    require node "install Node 20 or newer (https://nodejs.org)"
    require npm "it comes with Node (https://nodejs.org)"
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    ((major >= 20)) || die "Node $major is too old; install Node 20 or newer (https://nodejs.org)"
}

# Prints Cargo's target directory.
target_directory() {
    cargo metadata --locked --no-deps --format-version 1 |
        node -p 'JSON.parse(require("fs").readFileSync(0)).target_directory'
}

# Installs the packages of DIR's lock file unless they are installed.
npm_packages() {
    [[ $1/node_modules/.package-lock.json -nt $1/package-lock.json ]] || npm --prefix "$1" ci
}
