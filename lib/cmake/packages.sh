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

# The CUDA compiler, where cuda/CMakeLists.txt looks for it.
has_nvcc() {
    command -v nvcc > /dev/null || [ -x "${CUDACXX:-}" ] || [ -x /usr/local/cuda/bin/nvcc ]
}

# fetch_nvcc FOLDER: the compiler alone from Python packages, in an environment of its own (300 MB), for machines without the toolkit:
# CUDA code is compiled wherever the tests run. Sets CUDACXX.
fetch_nvcc() {
    for nvcc in "$1"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
        if [ -e "$1/complete" ] && [ -x "$nvcc" ]; then
            CUDACXX=$(cd "$(dirname "$nvcc")" && pwd)/nvcc
            export CUDACXX
            return
        fi
    done
    echo "Installing nvcc into $1" >&2
    mkdir -p "$1"
    if ! { python3 -m venv "$1" && "$1/bin/pip" install --disable-pip-version-check 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' \
        'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*'; } > "$1/log" 2>&1 < /dev/null; then
        cat "$1/log" >&2
        echo "There is no CUDA compiler, and none could be installed. CUDACXX=/path/to/nvcc names one." >&2
        return 1
    fi
    touch "$1/complete"
    fetch_nvcc "$1"
}
