#!/bin/sh
# Text from a real model: installs what is missing, builds what is needed, and streams a continuation of the text given.
#   sh examples/quickstart.sh [--model DIR] [--threads N] [-n N] "Once upon a time"
set -eu
usage() {
    echo "usage: sh examples/quickstart.sh [--model DIR] [--threads N] [-n N] TEXT" >&2
    exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
model=$here/demo-model threads=$(getconf _NPROCESSORS_ONLN) tokens=128 prompt=
while [ $# -gt 0 ]; do
    case $1 in
        --model | --threads | -n)
            [ $# -ge 2 ] || usage
            case $1 in
                --model) model=$2 ;;
                --threads) threads=$2 ;;
                -n) tokens=$2 ;;
            esac
            shift 2
            ;;
        --)
            [ $# -eq 2 ] || usage
            prompt=$2
            shift 2
            ;;
        -?*) usage ;;
        *)
            [ -z "$prompt" ] || usage
            prompt=$1
            shift
            ;;
    esac
done
[ -n "$prompt" ] || usage

root=$(dirname "$here")
. "$root/lib/cmake/packages.sh"
need_tool g++ g++
need_tool cmake cmake
need_tool ninja ninja-build
need_header utf8proc.h libutf8proc-dev
need_header CLI/CLI.hpp libcli11-dev
install_missing

# The build's output is shown only if it fails.
build=$root/build/release
log=$(mktemp)
build_chat() {
    if [ ! -e "$build/build.ninja" ]; then
        (cd "$root" && cmake --preset release -DPITH_BUILD_TESTS=OFF) || return 1
    fi
    cmake --build "$build" --target chat
}
[ -e "$build/examples/chat" ] || echo "Building (once)..." >&2
if ! build_chat > "$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
exec "$build/examples/chat" "$model" --threads "$threads" --tokens "$tokens" "--prompt=$prompt"
