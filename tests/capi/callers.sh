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
exit $bad
