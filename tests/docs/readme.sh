#!/bin/sh
# The README's C program compiles as it stands there, and prints text; the files it links to exist.
set -eu
source=$1 library=$2 cc=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$source/README.md" > "$tmp/readme.c"
"$cc" -std=c99 -Wall -Wextra -pedantic -Werror -I"$source/include" "$tmp/readme.c" -o "$tmp/readme" "$library"
LD_LIBRARY_PATH=$(dirname "$library") "$tmp/readme" "$source/examples/demo-model" > "$tmp/text"
[ "$(wc -c < "$tmp/text")" -gt 30 ] || { echo "it printed: $(cat "$tmp/text")"; exit 1; }
for link in $(grep -oE '\]\([^)]+\)' "$source/README.md" | sed 's/^](//; s/)$//'); do
    [ -e "$source/$link" ] || { echo "README.md links to $link, which is not there"; exit 1; }
done
cat "$tmp/text"
