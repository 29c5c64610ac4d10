#!/bin/sh
# What libpith.so exports = lib/abi/symbols.txt = the PITH_API lines of the headers.
set -eu
library=$1 source=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort > "$tmp/exported"
sed 's/ .*//' "$source/lib/abi/symbols.txt" | sort > "$tmp/listed"
cat "$source"/include/pith/*.h | grep '^PITH_API' | sed 's/.*\(pith_[a-z_0-9]*\)(.*/\1/' | sort > "$tmp/declared"
diff "$tmp/listed" "$tmp/exported" || { echo "exported symbols differ from lib/abi/symbols.txt (< listed, > exported)"; exit 1; }
diff "$tmp/listed" "$tmp/declared" || { echo "PITH_API lines differ from lib/abi/symbols.txt (< listed, > declared)"; exit 1; }
echo "$(wc -l < "$tmp/exported") symbols"
