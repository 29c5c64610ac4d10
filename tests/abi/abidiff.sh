#!/bin/sh
# The ABI that the headers declare is the baseline's, as libabigail sees it: any difference fails, an addition too. Its DWARF comes from a
# shared object in which every PITH_API declaration has a body. That is the library's own ABI: the compiler refuses a definition in lib/api
# that differs from its declaration, and symbols.sh compares the names.
# abidiff.sh SOURCE compares; abidiff.sh SOURCE FILE writes the ABI to FILE.
set -eu
source=$1
for tool in abidw abidiff; do
    command -v $tool > /dev/null || { echo "$tool (abigail-tools) is not installed: skipped"; exit 77; }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat > "$tmp/all.c" << 'END'
#include <pith/cuda.h>
#include <pith/pith.h>
END
gcc -std=c99 -E -P -I"$source/include" "$tmp/all.c" |
    awk 'BEGIN { RS = ";" } { sub(/\n$/, ""); if (index($0, "visibility(\"default\")")) print $0 " { __builtin_trap(); }"; else if (NF) print $0 ";" }' > "$tmp/bodies.c"
gcc -std=c99 -g -O0 -fPIC -shared "$tmp/bodies.c" -o "$tmp/abi.so"
abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture --type-id-style hash "$tmp/abi.so" |
    sed "s|path='[^']*'|path='include/pith'|" > "$tmp/now.abi"
if [ $# -gt 1 ]; then
    cp "$tmp/now.abi" "$2"
    exit
fi
abidiff "$source/lib/abi/baseline/libpith.abi" "$tmp/now.abi" || { echo "abidiff ended with $?: the ABI is not the baseline's"; exit 1; }
echo "$(grep -c '<function-decl' "$tmp/now.abi") functions and their types are the baseline's"
