#!/bin/sh
# The one test command: installs what is missing, builds, runs every test. Ends with CTest's summary.
set -eu
cd "$(dirname "$0")/.."
. lib/cmake/packages.sh
need_tool g++ g++
need_tool cmake cmake
need_tool ninja ninja-build
need_tool pkg-config pkg-config
need_tool clang clang
need_tool doxygen doxygen
need_tool abidiff abigail-tools
need_tool strace strace
need_header utf8proc.h libutf8proc-dev
need_header catch2/catch.hpp catch2/catch_test_macros.hpp catch2
need_header CLI/CLI.hpp libcli11-dev
if ! has_nvcc && ! python3 -c 'import ensurepip' 2> /dev/null; then missing="$missing python3-venv"; fi
install_missing
has_nvcc || fetch_nvcc build/nvcc
if [ "$(uname -m)" = x86_64 ]; then  # the Arm kernels, in an emulator; without these that test is skipped, and says so
    missing=
    need_tool aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
    need_tool qemu-aarch64 qemu-user
    install_missing || echo "The Arm build will not be tested" >&2
fi

cmake --preset release -DPITH_BUILD_TESTS=ON -DPITH_BUILD_EXAMPLES=ON
cmake --build --preset release
exec ctest --preset release -j 2
