#!/bin/sh
# What libpith.so asks of others: only what tests/abi/imports.txt allows, only libc and libm, no constructor of ours, no TLS.
set -eu
library=$1 source=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u > "$tmp/imports"
grep -v '^#' "$source/tests/abi/imports.txt" | sort -u > "$tmp/allowed"
extra=$(comm -23 "$tmp/imports" "$tmp/allowed")
[ -z "$extra" ] || { echo "imports that tests/abi/imports.txt does not allow:"; echo "$extra"; exit 1; }
needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|libm\.so\.6|ld-linux.*)$' || true)
[ -z "$needed" ] || { echo "needs other libraries: $needed"; exit 1; }
init=$(readelf -SW "$library" | awk '{ sub(/^ *\[ *[0-9]+\] /, "") } $1 == ".init_array" { print $5 }')
[ "$init" = "000008" ] || { echo ".init_array is 0x$init bytes, not the compiler's 8: there is a static constructor"; exit 1; }
readelf -SW "$library" | grep -qE '\.(tdata|tbss)' && { echo "there is thread-local storage"; exit 1; }
echo "$(wc -l < "$tmp/imports") imports, libc and libm only"
