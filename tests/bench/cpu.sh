#!/bin/sh
# All CPU figures of docs/benchmarks in one go, for a quiet machine: sh tests/bench/cpu.sh <build folder> [model.gguf of shape 1b, llama-bench]
# Each figure stands beside the memory's or the processor's limit of the same second; the peer, if given, runs in turn with ours.
set -eu
build=$1
gguf=${2:-}
peer=${3:-}
cat /proc/loadavg
"$build"/tests/bench/kernel_bench avx512
"$build"/tests/bench/kernel_bench avx2
for threads in 1 2; do
    for turn in 1 2 3; do
        "$build"/tests/bench/pith_bench --shape 1b --threads $threads --repeat 1
        [ -z "$peer" ] || "$peer" -m "$gguf" -t $threads -p 512 -n 64 -r 1 -fa 1
    done
    "$build"/tests/bench/pith_bench --shape 7b --threads $threads --repeat 3
    "$build"/tests/bench/pith_bench --shape 1b --threads $threads --repeat 3 --prompt 4096 # a long cache
    "$build"/tests/bench/pith_bench --shape 1b --threads $threads --repeat 1 --exact
done
for threads in 1 2 4 8; do # oversubscribed on two cores
    "$build"/tests/bench/pith_bench --shape tiny --threads $threads --repeat 3
done
cat /proc/loadavg
