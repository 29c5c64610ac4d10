#!/bin/sh
# The reference builds without a warning: every public name is documented, every parameter, every link leads somewhere.
set -eu
source=$1
command -v doxygen > /dev/null || { echo "doxygen is not installed: skipped"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$source"
{ cat docs/Doxyfile; echo "OUTPUT_DIRECTORY = $out"; } | doxygen -
