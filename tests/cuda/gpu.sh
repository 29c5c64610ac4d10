#!/bin/sh
# All that needs a GPU, on a machine that has one, in minutes once it is built: the kernels, whole models on every path that runs there,
# memory that runs out, leaks, determinism, threads, and compute-sanitizer. Prints a table of what passed, failed or was skipped.
# Exit code: 0 all passed, 1 something failed, 77 nothing could run. Without a GPU nothing passes.
#   gpu.sh [--only PATTERN] BUILD_FOLDER [GENERIC_BUILD_FOLDER]
# BUILD_FOLDER: of preset release; GENERIC_BUILD_FOLDER: of preset release-cuda-generic, or another with code that this GPU runs.
# --only: the rows whose name has it (a basic regular expression).
set -u
only=.
[ "$1" = --only ] && only=$2 && shift 2
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
generic=
[ $# -gt 1 ] && generic=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0 begun=$(date +%s)

# One row: limit in seconds, name, command... Its verdict and what it said last go to files, so that rows can run side by side.
run() {
    limit=$1 name=$2 begin=$(date +%s)
    shift 2
    said=$work/$(echo "$name" | tr -c 'A-Za-z0-9\n' _)
    if ! command -v "$1" > /dev/null; then
        echo "$(basename "$1") is not there" > "$said" && code=77
    else
        timeout -k 5 "$limit" "$@" > "$said" 2>&1
        code=$?
    fi
    case $code in 0) verdict=passed ;; 77) verdict=skipped ;; 124 | 137) verdict=TIMEOUT ;; *) verdict=FAILED ;; esac
    printf '%-8s %4d s  %-44s %s\n' $verdict $(($(date +%s) - begin)) "$name" "$(grep -av '^ *$\|^=\{20\}' "$said" | tail -n 1 | cut -c1-100)"
    if [ $verdict = FAILED ] || [ $verdict = TIMEOUT ]; then grep -a 'FAIL\|rror' "$said" | head -n 20 | sed 's/^/    /'; fi
    echo $verdict >> "$work/verdicts"
}
row() { if echo "$2" | grep -q "$only"; then run "$@"; fi; }
beside() { # with those around it
    count=$((count + 1))
    if echo "$2" | grep -q "$only"; then (run "$@" > "$work/row$count" && cat "$work/row$count") & fi
}

# A build's kernels, and each test of whole models as a row.
kernels() {
    for program in "$2"/tests/cuda/*_test; do row 120 "$1kernels: $(basename "$program" _test)" "$program"; done
}
models() {
    prefix=$1 folder=$2
    shift 2
    "$folder/tests/cuda/cuda_model" "$folder/lib/libpith_cuda.so" "$source" --list-tests --verbosity quiet > "$work/list" 2> /dev/null
    case $? in
        0) ;;
        *) row 60 "${prefix}models" "$folder/tests/cuda/cuda_model" "$folder/lib/libpith_cuda.so" "$source" && return ;;
    esac
    while read -r test; do
        row 120 "$prefix$test" "$folder/tests/cuda/cuda_model" "$folder/lib/libpith_cuda.so" "$source" "$@" "$(echo "$test" | sed 's/,/\\,/g')" < /dev/null
    done < "$work/list"
}
sanitize() { # tool, name, command...
    tool=$1 name=$2
    shift 2
    beside 240 "$tool: $name" compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 9 "$@"
}

kernels "" "$build"
models "" "$build"
models "small shared memory: " "$build" --small-shared
row 120 "memory that runs out, allocation by allocation" "$build/tests/cuda/cuda_memory" "$build/lib/libpith_cuda.so" "$source/examples/demo-model"
if [ -n "$generic" ]; then
    kernels "generic: " "$generic"
    models "generic: " "$generic"
fi
for tool in memcheck racecheck; do
    sanitize "$tool" "demo model" "$build/tests/cuda/cuda_model" "$build/lib/libpith_cuda.so" "$source" "a short text*"
    sanitize "$tool" "sampling" "$build/tests/cuda/sample_test" --few
    sanitize "$tool" "attention" "$build/tests/cuda/attention_test" --few
    sanitize "$tool" "norms, rope, embedding" "$build/tests/cuda/elementwise_test"
done
wait

echo "$(grep -c passed "$work/verdicts") passed, $(grep -c 'FAILED\|TIMEOUT' "$work/verdicts") failed, $(grep -c skipped "$work/verdicts") skipped," \
    "$(($(date +%s) - begun)) s"
if grep -q 'FAILED\|TIMEOUT' "$work/verdicts"; then exit 1; fi
if ! grep -q passed "$work/verdicts"; then exit 77; fi
