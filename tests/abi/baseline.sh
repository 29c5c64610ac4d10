#!/bin/sh
# Run by hand, in the commit that adds to the ABI on purpose: makes today's headers the baseline, and the frozen copy of the release named.
# baseline.sh RELEASE, such as 0.1. A release that is out keeps its frozen headers.
set -eu
release=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$source/lib/abi/baseline" "$source/lib/abi/frozen/$release/pith"
sh "$source/tests/abi/abidiff.sh" "$source" "$source/lib/abi/baseline/libpith.abi"
cp "$source"/include/pith/*.h "$source/lib/abi/frozen/$release/pith/"
