#!/bin/sh
# What the README and the model card link to exists.
set -eu
source=$1
bad=0
for file in README.md docs/CONTRIBUTING.md examples/demo-model/README.md; do
    for link in $(grep -oE '\]\([^)#]+' "$source/$file" | sed 's/^](//'); do
        [ -e "$source/$(dirname "$file")/$link" ] || { echo "$file links to $link, which is not there"; bad=1; }
    done
done
exit $bad
