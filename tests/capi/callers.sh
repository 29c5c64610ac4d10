#!/bin/sh
# Every public function is called by some test here, and every status is produced by one.
set -eu
source=$1
bad=0
for symbol in $(sed 's/ .*//' "$source/lib/abi/symbols.txt"); do
    grep -qE "\b$symbol\(" "$source"/tests/capi/*.c || { echo "$symbol has no caller in tests/capi"; bad=1; }
done
for status in ARGUMENT VERSION MEMORY IO FORMAT UNSUPPORTED BUFFER CONTEXT CANCELLED RUNNER DEVICE STATE LIMIT NUMERIC; do
    grep -qE "(EXPECT|expect_open)\(.*PITH_E_$status|== PITH_E_$status|^ +PITH_E_$status, " "$source"/tests/capi/*.c || { echo "no test expects PITH_E_$status"; bad=1; }
done
# Each status that a function's comment promises, function by function (aliases: helpers of the tests).
awk '/^\/\*\*/ { doc = ""; on = 1 } { if (on) doc = doc " " $0 } /\*\// { on = 0 }
     /^PITH_API/ { match($0, /pith_[a-z_]+\(/); f = substr($0, RSTART, RLENGTH - 1)
                   while (match(doc, /::PITH_E_[A-Z]+/)) { print f, substr(doc, RSTART + 2, RLENGTH - 2); doc = substr(doc, RSTART + RLENGTH) } }' \
    "$source"/include/pith/*.h | sort -u | {
    missing=0
    while read -r function status; do
        case $function in pith_model_open) function='(pith_model_open|expect_open)' ;; esac
        grep -qE "$function\(.*$status" "$source"/tests/capi/*.c || { echo "$function: no test expects $status"; missing=1; }
    done
    exit $missing
} || bad=1
exit $bad
