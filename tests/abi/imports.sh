#!/bin/sh
# What a binary asks of the process it is a guest in. Imports: only those of a list, only libc and libm. No constructor of ours, no TLS, no
# memory that stays writable but what every shared object has, no executable stack.
set -eu
library=$1 allowed=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0
complain() { echo "$(basename "$library"): $*"; bad=1; }
[ -s "$library" ] || { echo "$library is missing"; exit 1; }

nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u > "$tmp/imports"
grep -v '^#' "$allowed" | sort -u > "$tmp/allowed"
extra=$(comm -23 "$tmp/imports" "$tmp/allowed" | xargs)
[ -z "$extra" ] || complain "imports that $(basename "$allowed") does not allow: $extra"
readelf -dW "$library" > "$tmp/dynamic"
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$tmp/dynamic" | grep -vE '^(libc\.so\.6|libm\.so\.6|ld-linux.*)$' | xargs)
[ -z "$needed" ] || complain "needs other libraries: $needed"
! grep -qE 'TEXTREL|RPATH|RUNPATH|STATIC_TLS' "$tmp/dynamic" || complain "has text relocations, a search path or static TLS"

# name and size of every section; flags, for what is writable
readelf -SW "$library" | sed -n 's/^ *\[ *[0-9]*\] *//p' | awk 'NF >= 10 && $1 ~ /^\./ { print $1, $5, $7 }' > "$tmp/sections"
init=$(awk '$1 ~ /^\.(init|preinit)_array|^\.ctors/ { printf "%s ", $1 " " $2 }' "$tmp/sections")
[ "$init" = ".init_array 000008 " ] || complain "constructors: $init, not the compiler's own 8 bytes: there is a static constructor"
fini=$(awk '$1 ~ /^\.fini_array|^\.dtors/ { printf "%s ", $1 " " $2 }' "$tmp/sections")
[ "$fini" = ".fini_array 000008 " ] || complain "destructors: $fini, not the compiler's own 8 bytes"
! awk '$1 ~ /^\.t(data|bss)/ || $3 ~ /T/ { found = 1 } END { exit !found }' "$tmp/sections" || complain "there is thread-local storage"

# Constant tables of pointers (.data.rel.ro) are sealed once relocated. .data holds __dso_handle, .bss the flag of __do_global_dtors_aux.
# GCC for Arm also keeps images there of the structs with pointers that it copies to the stack: nameless and never written. There the
# names below decide.
images=none
if readelf -hW "$library" | grep -q 'Machine:.*AArch64' && nm "$library" 2> /dev/null | grep -q ' [td] '; then images=.data; fi
writable=$(awk -v images="$images" '$3 ~ /W/ && $1 !~ /^\.(init_array|fini_array|data\.rel\.ro|dynamic|got|got\.plt)$/ && $1 != images &&
    !($1 ~ /^\.(data|bss)$/ && $2 <= "000010") { printf "%s ", $1 " 0x" $2 }' "$tmp/sections")
[ -z "$writable" ] || complain "writable data: $writable"
readelf -lW "$library" > "$tmp/segments"
grep -q GNU_RELRO "$tmp/segments" || complain "constant tables stay writable: no GNU_RELRO"
! grep -q 'GNU_STACK.*RWE' "$tmp/segments" || complain "the stack becomes executable"
nm "$library" | awk '$2 ~ /^[bBdDgGsSuvVC]$/ { print $1, $3 }' > "$tmp/data"  # without a symbol table: nothing, and the sizes above decide
relro=$(awk '$1 == "GNU_RELRO" { print $3, $6; exit }' "$tmp/segments")
named=$(awk -v relro="$relro" '
    function hex(s, i, v) { v = 0; s = tolower(s); sub(/^0x/, "", s); for (i = 1; i <= length(s); i++) v = v * 16 + index("0123456789abcdef", substr(s, i, 1)) - 1; return v }
    BEGIN { split(relro, r, " "); from = hex(r[1]); to = from + hex(r[2]) }
    { at = hex($1) }
    (at < from || at >= to) && $2 !~ /^(\$d|_GLOBAL_OFFSET_TABLE_|__TMC_END__|__dso_handle|completed\.[0-9]+|_edata|_end|__bss_start)$/ { print $2 }' "$tmp/data" | xargs)
[ -z "$named" ] || complain "mutable globals: $named"
[ $bad = 0 ] || exit 1
echo "$(wc -l < "$tmp/imports") imports, libc and libm only; no constructor, no TLS, no writable data"
