#!/bin/sh
# All that needs a GPU, on a machine that has one, in minutes once it is built: the kernels, whole models on every path that runs there,
# memory that runs out, and compute-sanitizer. A table of what passed, failed or was skipped.
# gpu.sh BUILD_FOLDER
set -u
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
tests=$build/tests/cuda plugin=$build/lib/libpith_cuda.so
log=$(mktemp)
trap 'rm -f "$log"' EXIT
bad=0
run() { # name, command...
    name=$1
    shift
    begin=$(date +%s)
    if [ ! -x "$(command -v "$1")" ]; then verdict=skipped; else
        "$@" > "$log" 2>&1
        case $? in 0) verdict=passed ;; 77) verdict=skipped ;; *) verdict=FAILED bad=1 ;; esac
    fi
    printf '%-8s %4d s  %s\n' $verdict $(($(date +%s) - begin)) "$name"
    if [ $verdict = FAILED ]; then tail -30 "$log" | sed 's/^/    /'; fi
}
sanitize() { # tool
    run "compute-sanitizer $1" compute-sanitizer --tool "$1" --error-exitcode 9 "$tests/cuda_model" "$plugin" "$source" "the same bits*"
}
run "plug-in and devices" "$tests/cuda_no_driver" "$plugin"
run "loading, without the GPU" "$tests/cuda_load"
for program in "$tests"/*_test; do run "kernels: $(basename "$program" _test)" "$program"; done
run "models" "$tests/cuda_model" "$plugin" "$source"
run "models, small shared memory" "$tests/cuda_model" "$plugin" "$source" --small-shared
# The driver itself can be told to take the PTX: the path of every GPU but the H100.
run "models, the generic path" env CUDA_FORCE_PTX_JIT=1 "$tests/cuda_model" "$plugin" "$source"
run "memory that runs out" "$tests/cuda_memory" "$plugin" "$source/examples/demo-model"
sanitize memcheck
sanitize racecheck
exit $bad
