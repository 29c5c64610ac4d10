#!/bin/sh
# Installs into a temporary folder and moves it; the README's C program builds through find_package and pkg-config, and runs.
set -eu
source=$1 build=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cmake --install "$build" --prefix "$tmp/first" > "$tmp/log"
mv "$tmp/first" "$tmp/usr"
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$source/README.md" > "$tmp/readme.c"
grep -q pith_session_forward "$tmp/readme.c"

cmake -S "$source/tests/package/consumer" -B "$tmp/build" -G Ninja -DCMAKE_PREFIX_PATH="$tmp/usr" -DREADME_PROGRAM="$tmp/readme.c" > "$tmp/log"
cmake --build "$tmp/build" > "$tmp/log" || { cat "$tmp/log"; exit 1; }

PKG_CONFIG_PATH=$(dirname "$(find "$tmp/usr" -name pith.pc)")
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion pith)" = 0.1.0 ]
# shellcheck disable=SC2046
$CC -std=c99 -Wall -Wextra -pedantic -Werror "$tmp/readme.c" -o "$tmp/by_pkg_config" $(pkg-config --cflags --libs pith) \
    -Wl,-rpath,"$(pkg-config --variable=libdir pith)"
$CC -std=c99 -DPITH_STATIC "$tmp/readme.c" -o "$tmp/by_pkg_config_static" $(pkg-config --cflags pith) \
    "$(pkg-config --variable=libdir pith)/libpith.a" -lutf8proc -lm

expected=
for program in "$tmp/build/readme" "$tmp/build/readme_static" "$tmp/by_pkg_config" "$tmp/by_pkg_config_static"; do
    text=$("$program" "$source/examples/demo-model" "Once upon a time")
    echo "$(basename "$program"):$text"
    [ ${#text} -gt 80 ]
    [ -z "$expected" ] || [ "$text" = "$expected" ]
    expected=$text
done
if "$tmp/build/readme" "$tmp" "Once upon a time" > "$tmp/message"; then exit 1; fi
grep -q config.json "$tmp/message"
