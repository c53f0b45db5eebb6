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

# find_program NAME...: the program of the first name that there is.
find_program() {
    local name
    for name in "$@"; do
        if command -v "$name"; then return; fi
    done
    return 1
}

# unpack DIRECTORY PACKAGE...: packages of Debian into Cargo's target directory, without installing them, which would
# start their services on this machine.
unpack() {
    local directory package
    directory="$(target_directory)/$1"
    shift
    mkdir -p "$directory"
    (
        cd "$directory"
        apt-get download "$@"
        for package in "$@"; do
            dpkg-deb --extract "$package"_*.deb .
        done
    )
}

# Not /usr/sbin/rabbitmq-server of Debian, which runs as the user rabbitmq alone.
find_rabbitmq() {
    find_program ${RABBITMQ:-/usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server \
        "$(target_directory)/rabbitmq/usr/lib/rabbitmq/bin/rabbitmq-server"}
}

# RabbitMQ with no more of Erlang than it starts with. Its own package comes last, for find_rabbitmq.
unpack_rabbitmq() {
    unpack rabbitmq erlang-{base,asn1,crypto,eldap,inets,mnesia,os-mon,public-key,ssl,syntax-tools,tools,xmerl}
    # Debian's erl looks for Erlang where its package installs it.
    sed --in-place 's|ROOTDIR=/usr/lib/erlang$|ROOTDIR=$(dirname "$(dirname "$(readlink -f "$0")")")|' \
        "$(target_directory)/rabbitmq/usr/lib/erlang/bin/erl"
    unpack rabbitmq rabbitmq-server
}

find_redis() {
    find_program ${REDIS_SERVER:-redis-server "$(target_directory)/redis/usr/bin/redis-server"}
}

# Redis with the libraries that may be missing. Its own package comes last, for find_redis.
unpack_redis() {
    unpack redis libatomic1 libjemalloc2 liblzf1 redis-tools
    unpack redis redis-server
}
