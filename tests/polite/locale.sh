#!/bin/sh
# A host whose decimal point is a comma. The locale is made here, where localedef and its sources are installed.
set -eu
program=$1 model=$2
for name in de_DE.utf8 fr_FR.utf8; do
    if locale -a 2> /dev/null | grep -qx "$name"; then exec "$program" "$model" "$name"; fi
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
localedef -i de_DE -f UTF-8 "$tmp/de_DE.utf8" > /dev/null 2>&1 || { echo "no locale with a comma, and none can be made: skipped"; exit 77; }
LOCPATH=$tmp "$program" "$model" de_DE.utf8
