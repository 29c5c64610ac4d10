#!/bin/sh
# What libpith.so exports = lib/abi/symbols.txt = the PITH_API lines of the headers; its name and its symbols' version are those programs bound to.
set -eu
library=$1 source=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort > "$tmp/versioned"
sed 's/@.*//' "$tmp/versioned" > "$tmp/exported"
sed 's/ .*//' "$source/lib/abi/symbols.txt" | sort > "$tmp/listed"
cat "$source"/include/pith/*.h | grep '^PITH_API' | sed 's/.*\(pith_[a-z_0-9]*\)(.*/\1/' | sort > "$tmp/declared"
diff "$tmp/listed" "$tmp/exported" || { echo "exported symbols differ from lib/abi/symbols.txt (< listed, > exported)"; exit 1; }
diff "$tmp/listed" "$tmp/declared" || { echo "PITH_API lines differ from lib/abi/symbols.txt (< listed, > declared)"; exit 1; }
! grep -v '@@PITH_0$' "$tmp/versioned" || { echo "these are not of version PITH_0"; exit 1; }
readelf -dW "$library" | grep -q 'SONAME.*\[libpith\.so\.0\]' || { echo "its SONAME is not libpith.so.0"; exit 1; }
echo "$(wc -l < "$tmp/exported") symbols"
