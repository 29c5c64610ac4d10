# Sourced by tests/run.sh and examples/quickstart.sh: notes which tools and headers are missing, and installs their Debian packages.
missing=

# need_tool COMMAND PACKAGE
need_tool() {
    command -v "$1" > /dev/null || missing="$missing $2"
}

# need_header HEADER... PACKAGE: any one of the headers will do.
need_header() {
    while [ $# -gt 1 ]; do
        for prefix in /usr/include /usr/local/include; do
            [ -e "$prefix/$1" ] && return
        done
        if command -v c++ > /dev/null && echo "#include <$1>" | c++ -E -x c++ - > /dev/null 2>&1; then return; fi
        shift
    done
    missing="$missing $1"
}

# Installs what is missing, or says how to and fails. Needs root, or sudo that asks no password. A subshell: it sets no variable of the caller's.
install_missing() (
    [ -n "$missing" ] || exit 0
    as_root=
    if [ "$(id -u)" != 0 ]; then as_root=sudo; fi
    if ! command -v apt-get > /dev/null; then
        echo "Please install what these Debian packages hold, then start again:$missing" >&2
        exit 1
    fi
    if [ -n "$as_root" ] && ! sudo -n true 2> /dev/null; then
        echo "Please install what is missing, then start again:" >&2
        echo "    sudo apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "Installing:$missing" >&2
    log=$(mktemp)
    if ! { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
        > "$log" 2>&1 < /dev/null; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
)
