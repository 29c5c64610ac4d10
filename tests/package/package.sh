#!/bin/sh
# Installs, moves the installed tree (nothing in it may know where it was), and builds and runs a project with it: through
# find_package, against both libraries, from C and C++, and through pkg-config.
set -eu
build=$1 consumer=$2 model=$3 cmake=$4 generator=$5
export CC="$6" CXX="$7"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$cmake" --install "$build" --prefix "$tmp/first" > /dev/null
mv "$tmp/first" "$tmp/moved"
"$cmake" -S "$consumer" -B "$tmp/build" -G "$generator" -DCMAKE_PREFIX_PATH="$tmp/moved" > "$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
"$cmake" --build "$tmp/build" > "$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
for program in c_shared c_static cpp_shared; do
    "$tmp/build/$program" "$model" > "$tmp/$program.out"
done
cmp "$tmp/c_shared.out" "$tmp/c_static.out"
cmp "$tmp/c_shared.out" "$tmp/cpp_shared.out"

if command -v pkg-config > /dev/null; then
    PKG_CONFIG_PATH=$(dirname "$(find "$tmp/moved" -name pith.pc)")
    export PKG_CONFIG_PATH
    flags=$(pkg-config --cflags --libs pith)
    $CC -std=c99 "$consumer/program.c" -o "$tmp/pc" $flags
    LD_LIBRARY_PATH=$(pkg-config --variable=libdir pith) "$tmp/pc" "$model" > "$tmp/pc.out"
    cmp "$tmp/c_shared.out" "$tmp/pc.out"
    [ "$(pkg-config --modversion pith)" = "$(head -n 1 "$tmp/pc.out")" ]
fi
cat "$tmp/c_shared.out"
