#!/bin/sh
# The gates, tested: each rule is broken in a scratch copy, and its gate must fail; on the unbroken copy it must pass.
set -u
source=$1 library=$2 utf8proc=$3
gates=$source/tests/abi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
broken=0 cases=0

# A fresh copy of what the gates read.
fresh() {
    rm -rf "$scratch/tree"
    mkdir -p "$scratch/tree/examples"
    cp -R "$source/include" "$source/lib" "$source/cuda" "$source/docs" "$source/README.md" "$scratch/tree/"
    cp -R "$source/examples/"*.c* "$source/examples/runners" "$scratch/tree/examples/"
    tree=$scratch/tree
}

verdict() { # what, 0: as it should be
    cases=$((cases + 1))
    if [ "$2" = 0 ]; then echo "ok      $1"; else broken=1; echo "FAILED  $1"; fi
}
passes() { # what, gate...
    what=$1
    shift
    "$@" > "$scratch/log" 2>&1
    status=$?
    [ $status = 77 ] && { echo "skipped $what"; return; }
    [ $status = 0 ] || sed 's/^/        /' "$scratch/log"
    verdict "$what" $status
}
fails() { # what, the text that the gate must say, gate...
    what=$1 text=$2
    shift 2
    "$@" > "$scratch/log" 2>&1
    status=$?
    [ $status = 77 ] && { echo "skipped $what"; return; }
    if [ $status != 0 ] && grep -qE -e "$text" "$scratch/log"; then verdict "$what" 0; return; fi
    echo "        ended with $status, expected a failure that says: $text"
    sed 's/^/        /' "$scratch/log" | head -5
    verdict "$what" 1
}
edit() { # file, sed command: an edit that changes nothing would prove nothing
    sed "$2" "$tree/$1" > "$scratch/edited"
    if cmp -s "$scratch/edited" "$tree/$1"; then echo "        $1 has nothing for $2"; verdict "edit of $1" 1; fi
    cp "$scratch/edited" "$tree/$1"
}

layout() { gcc -std=c99 -fsyntax-only -I"$tree/include" "$gates/layout.c"; }
abidiff_gate() { sh "$gates/abidiff.sh" "$tree"; }
headers() { sh "$gates/headers.sh" "$tree/include"; }
arrows() { sh "$gates/arrows.sh" "$tree"; }
docs() { sh "$source/tests/docs/docs.sh" "$tree"; }
imports() { sh "$gates/imports.sh" "$scratch/libpith.so" "$gates/imports.txt"; }
symbols() { sh "$gates/symbols.sh" "$scratch/libpith.so" "$tree"; }

# The library with one file more.
flags="-std=c++20 -O2 -fPIC -fno-rtti -fno-threadsafe-statics -fvisibility=hidden -Wno-unused"
link() { # the rest: more flags of the linker
    { echo 'PITH_0 { global:'; sed -n 's/^\(pith_[a-z_0-9]*\) .*/\1;/p' "$tree/lib/abi/symbols.txt"; echo 'local: *; };'; } > "$scratch/map"
    gcc -shared -o "$scratch/libpith.so" "$scratch/extra.o" -Wl,--whole-archive "$library" -Wl,--no-whole-archive "$utf8proc" -lm \
        -Wl,-soname,libpith.so.0 -Wl,--exclude-libs,"$(basename "$utf8proc")" -Wl,--version-script="$scratch/map" "$@"
}
build() { # C++ code; more flags of the linker
    printf '%s\n' "$1" > "$scratch/extra.cc"
    shift
    # shellcheck disable=SC2086
    g++ $flags -I"$tree/include" -c "$scratch/extra.cc" -o "$scratch/extra.o" && link "$@"
}
breach() { # what, the text that the gate must say, C++ code, more flags of the linker
    what=$1 text=$2
    shift 2
    if build "$@" > "$scratch/build" 2>&1; then fails "$what" "$text" imports; else cat "$scratch/build"; verdict "$what" 1; fi
}
used='__attribute__((used))'

fresh
passes "headers: as they are" headers
passes "layout: as it is" layout
passes "abidiff: as it is" abidiff_gate
passes "arrows: as they are" arrows
passes "docs: as they are" docs
build 'extern "C" __attribute__((used)) int extra(int x) { return x + 1; }' -Wl,-z,defs || verdict "linking the scratch library" 1
passes "imports: a library with one harmless function more" imports
passes "symbols: a library with one hidden function more" symbols

# The order of the fields of pith_stream: sizes and names stay.
edit include/pith/tokenizer.h '/uint32_t count;/{h;d;};/uint32_t state;/G'
fails "layout: two fields swapped" same_ layout
fails "abidiff: two fields swapped" "offset changed" abidiff_gate
fresh
edit include/pith/base.h 's/\(PITH_E_IO *= \)-4/\1-5/;s/\(PITH_E_FORMAT *= \)-5/\1-4/'
fails "layout: constants renumbered" same_ layout
fresh
edit include/pith/sampler.h 's/const pith_token\* tokens;/const int64_t* tokens;/'
fails "abidiff: a field's type changed" "type of .*changed" abidiff_gate
fresh
edit include/pith/session.h 's/pith_session_truncate(pith_session\* session, size_t length/pith_session_truncate(pith_session* session, uint32_t length/'
fails "abidiff: a parameter's type changed" "parameter 2 of type" abidiff_gate
fresh
edit include/pith/session.h 's/uint32_t  *reserved;       .*/& uint32_t tail;/'
fails "abidiff: a struct grew without a new baseline" "size changed" abidiff_gate
fresh
edit include/pith/base.h 's/^PITH_API uint32_t pith_version.*/&\
PITH_API int32_t pith_more(void);/'
fails "abidiff: a function came without a new baseline" "1 Added function" abidiff_gate
fails "symbols: declared and not listed" "PITH_API lines differ" symbols
fails "docs: an undocumented public name" "pith_more.*not documented" docs
echo 'pith_more 0.2' >> "$tree/lib/abi/symbols.txt"
fails "symbols: listed and not exported" "exported symbols differ" symbols
build 'extern "C" __attribute__((visibility("default"), used)) int pith_more(void) { return 0; }' || verdict "linking the scratch library" 1
passes "symbols: declared, listed and exported" symbols
fresh
fails "symbols: exported and not listed" "exported symbols differ" symbols
edit lib/abi/symbols.txt '/^pith_session_cancel /d'
build ''
fails "symbols: one is gone" "PITH_API lines differ" symbols
fresh
build '' -Wl,-soname,libpith.so.1
fails "symbols: another SONAME" "SONAME" symbols

edit include/pith/base.h 's/    int32_t     system; /    int16_t     system; /'
fails "headers: a hole between fields" "padding" headers
fresh
edit include/pith/env.h 's/PITH_LOG_DEBUG   = 4 /PITH_LOG_DEBUG   = 4,/'
fails "headers: a comma that C89 lacks" "comma at end" headers
fresh
edit include/pith/base.h 's/<stdint\.h>/<stddef.h>/'
fails "headers: an include forgotten" "int32_t" headers
fresh
edit include/pith/base.h 's/char        message/bool        message/'
fails "headers: a bool" "bool" headers
fresh
echo '#include "session/session.h"' >> "$tree/lib/base/array.h"
fails "arrows: base includes session" "upward arrow" arrows
fresh
echo '#include <pith/session.h>' >> "$tree/lib/io/files.h"
fails "arrows: io includes a public header" "includes <pith/session.h>" arrows
fresh
echo '#include "session/session.h"' >> "$tree/cuda/device.h"
fails "arrows: the plug-in includes session" "not of the seam" arrows
fresh

breach "imports: printf" "printf" "#include <stdio.h>
$used void extra(int x) { printf(\"%d\", x); }"
breach "imports: stderr" "stderr" "#include <stdio.h>
$used void extra(int x) { fprintf(stderr, \"%d\", x); }"
breach "imports: getenv" "getenv" "#include <stdlib.h>
$used char* extra() { return getenv(\"HOME\"); }"
breach "imports: abort" "abort" "#include <stdlib.h>
$used void extra() { abort(); }"
breach "imports: assert" "__assert_fail" "#include <assert.h>
$used void extra(int x) { assert(x); }"
breach "imports: a signal handler" "sigaction|signal" "#include <signal.h>
$used void extra() { signal(SIGINT, SIG_IGN); }"
breach "imports: strtod, which obeys the locale" "strtod" "#include <stdlib.h>
$used double extra(const char* s) { return strtod(s, nullptr); }"
breach "imports: pthread_create" "pthread_create" "#include <pthread.h>
static void* run(void* x) { return x; }
$used void extra() { pthread_t t; pthread_create(&t, nullptr, run, nullptr); }"
breach "imports: std::thread" "pthread|_ZNSt6thread|_Z" "#include <thread>
$used void extra() { std::thread([] {}).detach(); }" -lstdc++
breach "imports: throw" "__cxa_throw" "$used void extra(int x) { if (x) throw x; }" -lstdc++
breach "imports: new" "_Znwm" "struct S { char bytes[100]; };
$used S* extra() { return new S; }" -lstdc++
breach "imports: another library" "needs other libraries" "#include <string>
$used std::string extra(std::string s) { return s + s; }" -lstdc++
breach "imports: a static constructor" "static constructor" "int seed();
$used int seed() { volatile int x = 3; return x; }
$used static const int value = seed();"
breach "imports: a static destructor" "__cxa_atexit|static constructor" "struct S { int x = 1; ~S(); };
$used S::~S() { x = 0; }
$used S global;"
breach "imports: atexit" "atexit" "#include <stdlib.h>
$used void extra(void (*f)()) { atexit(f); }"
breach "imports: thread_local" "thread-local" "$used thread_local int counter;
$used int extra() { return ++counter; }"
breach "imports: a mutable global" "mutable globals: .*counter" "$used int counter = 1;
$used int extra() { return ++counter; }"
breach "imports: a small function-local static" "mutable globals: .*last" "$used int extra(int x) { static int last; int was = last; last = x; return was; }"
breach "imports: a table that is not const" "writable data: .data" "$used int table[64] = {1, 2, 3};"
breach "imports: an executable stack" "stack becomes executable" "" -Wl,-z,execstack
breach "imports: no RELRO" "GNU_RELRO" "" -Wl,-z,norelro
if build "$used int* extra() { return new int; }" -Wl,-z,defs > "$scratch/build" 2>&1; then verdict "link: new is undefined" 1; else verdict "link: new is undefined" 0; fi

echo "$cases cases"
exit $broken
