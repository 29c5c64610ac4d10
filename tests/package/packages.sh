#!/bin/sh
# lib/cmake/packages.sh with a pretended apt-get, sudo and user: what is missing is installed, or the user is told how.
set -eu
source=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
stub() { # name, body
    printf '#!/bin/sh\n%s\n' "$2" > "$tmp/$1"
    chmod +x "$tmp/$1"
}
stub apt-get "echo apt-get \"\$@\" >> $tmp/calls"
stub sudo '[ "$2" = true ] && [ "$1" = -n ] && exit '"\$(cat $tmp/sudo_status)"'; "$@"'
stub id "cat $tmp/uid"
# Two things are missing, two are there; the caller's variables stay.
script='
    as_root=/somewhere log=/some/log
    . "$1/lib/cmake/packages.sh"
    need_tool sh sh-package
    need_tool no-such-tool tool-package
    need_header no/such/header.h stdio.h there-package
    need_header no/such/header.h header-package
    install_missing
    [ "$as_root" = /somewhere ] && [ "$log" = /some/log ]'
attempt() { # user id, what `sudo -n true` returns
    rm -f "$tmp/calls"
    echo "$1" > "$tmp/uid"
    echo "$2" > "$tmp/sudo_status"
    code=0
    PATH=$tmp:$PATH sh -euc "$script" sh "$source" > "$tmp/out" 2> "$tmp/err" || code=$?
}
fail() { echo "$1"; cat "$tmp/err" "$tmp/calls"; exit 1; }
install="apt-get install -y --no-install-recommends tool-package header-package"

attempt 0 1
[ $code = 0 ] || fail "root: ended with $code"
grep -qx "$install" "$tmp/calls" || fail "root: installed something else"
attempt 1000 0
[ $code = 0 ] || fail "sudo: ended with $code"
grep -qx "$install" "$tmp/calls" || fail "sudo: installed something else"
attempt 1000 1
[ $code = 1 ] && [ ! -e "$tmp/calls" ] || fail "no rights: ended with $code"
grep -q "sudo $install" "$tmp/err" || fail "no rights: did not say how"
[ ! -s "$tmp/out" ] || fail "wrote to standard output"
