#!/bin/sh
# Every public C header, alone and twice, as C89 to C23 and C++98 to C++20, with each compiler there is; padding and warnings are fatal.
set -eu
include=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
warnings="-Wall -Wextra -pedantic -Wpadded -Werror"
n=0
for header in "$include"/pith/*.h; do
    name=$(basename "$header")
    printf '#include <pith/%s>\n#include <pith/%s>\nint main(void) { return 0; }\n' "$name" "$name" > "$tmp/t.c"
    cp "$tmp/t.c" "$tmp/t.cc"
    for cc in gcc clang; do
        command -v $cc > /dev/null || continue
        for std in c89 c99 c11 c17 c2x; do
            $cc -std=$std $warnings -Wstrict-prototypes -Wc++-compat -I"$include" -c "$tmp/t.c" -o /dev/null
            n=$((n + 1))
        done
    done
    for cxx in g++ clang++; do
        command -v $cxx > /dev/null || continue
        for std in c++98 c++11 c++14 c++17 c++20; do
            $cxx -std=$std $warnings -I"$include" -c "$tmp/t.cc" -o /dev/null
            n=$((n + 1))
        done
    done
done
echo "$n combinations compiled"
[ "$n" -ge 80 ]
