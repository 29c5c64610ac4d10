#!/bin/sh
# Builds the library and its Arm tests with Debian's cross compiler, and runs them in an emulator: arm.sh SOURCE FOLDER.
# 77: something is missing, and nothing was tested.
set -eu
source=$1 build=$2
skip() {
    echo "SKIPPED, nothing of Arm is tested: $*"
    exit 77
}
command -v aarch64-linux-gnu-g++ > /dev/null || skip "there is no aarch64-linux-gnu-g++ (Debian's g++-aarch64-linux-gnu)"
command -v qemu-aarch64 > /dev/null || skip "there is no qemu-aarch64 (Debian's qemu-user)"
for cpu in max neoverse-n1 cortex-a53; do
    qemu-aarch64 -cpu help | grep -qw -e "$cpu" || skip "this qemu-aarch64 does not know the CPU $cpu"
done
echo '#include <catch2/catch.hpp>' | aarch64-linux-gnu-g++ -E -x c++ - > /dev/null 2>&1 ||
    skip "Catch2 2, which is only a header, is not here; Catch2 3 is compiled, and for this machine"
mkdir -p "$build"
cd "$build"

# utf8proc as this system's source package has it: apt checks its signature, into lists of our own, which takes no rights. The package's
# index is asked of the servers that this machine takes its binary packages from.
fetch_utf8proc() {
    rm -rf fetch
    mkdir -p fetch/lists/partial fetch/parts
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        if [ -e "$file" ]; then sed -n 's/^deb[[:space:]]/deb-src /p' "$file" > "fetch/parts/$(basename "$file")"; fi
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        if [ -e "$file" ]; then sed 's/^Types:.*/Types: deb-src/' "$file" > "fetch/parts/$(basename "$file")"; fi
    done
    cd fetch
    set -- -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$PWD/parts" -o Dir::State::Lists="$PWD/lists" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    apt-get "$@" update > log 2>&1 || true  # a server may have no sources: what counts is whether the package comes
    if apt-get "$@" source --download-only utf8proc >> log 2>&1 && tar xf utf8proc_*.orig.tar.*; then
        aarch64-linux-gnu-gcc -O2 -fPIC -DUTF8PROC_STATIC -c utf8proc*/utf8proc.c -o utf8proc.o
        aarch64-linux-gnu-ar rcs libutf8proc.a utf8proc.o
        mkdir ../utf8proc
        mv libutf8proc.a utf8proc*/utf8proc.h ../utf8proc
    else
        cat log
    fi
    cd ..
    rm -rf fetch
}
[ -e utf8proc/utf8proc.h ] || fetch_utf8proc
[ -e utf8proc/utf8proc.h ] || skip "apt does not give the sources of utf8proc"

env -u CUDACXX cmake -S "$source" -B . -G Ninja -DCMAKE_TOOLCHAIN_FILE="$source/tests/arm/toolchain.cmake" -DCMAKE_BUILD_TYPE=Release \
    -DPITH_BUILD_TESTS=ON -DPITH_BUILD_EXAMPLES=OFF -DPITH_NVCC=OFF \
    -DPITH_UTF8PROC_LIBRARY="$PWD/utf8proc/libutf8proc.a" -DPITH_UTF8PROC_INCLUDE="$PWD/utf8proc"
cmake --build . -j 2 --target arm
exec ctest -j 2 -R '^arm_' --output-on-failure --no-tests=error
