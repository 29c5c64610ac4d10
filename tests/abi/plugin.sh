#!/bin/sh
# What a backend plug-in exports: its entry point, and nothing that the host process could stumble over.
set -eu
library=$1
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | xargs)
[ "$exported" = pith_backend_entry ] || { echo "$(basename "$library") exports: $exported; expected pith_backend_entry alone"; exit 1; }
echo "$exported"
