#!/bin/sh
# The system calls of a program that loads a model and generates: files are read and memory is taken, nothing else; while tokens come only
# the thread's CPU clock is read, for the account; and all memory and files are given back at the end.
set -eu
program=$1 model=$2 manner=${3-}
command -v strace > /dev/null || { echo "strace is not installed: skipped"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
strace -o "$tmp/probe" true 2> /dev/null || { echo "strace may not trace here: skipped"; exit 77; }
LD_BIND_NOW=1 strace -f -o "$tmp/trace" "$program" "$model" $manner
awk -v dir="$tmp" 'BEGIN { phase = 0 } / getppid\(/ { phase++; next } phase >= 1 && phase <= 3 { sub(/^[0-9]+ +/, ""); print > (dir "/phase" phase) }' "$tmp/trace"
[ "$(grep -c ' getppid(' "$tmp/trace")" = 4 ] || { echo "expected 4 marks in the trace"; exit 1; }
touch "$tmp/phase1" "$tmp/phase2" "$tmp/phase3"
bad=0
strange() { # file, allowed, when
    if grep -vE "^($2)" "$1"; then echo "^ not expected while $3"; bad=1; fi
}
strange "$tmp/phase1" 'openat\(AT_FDCWD, "[^"]*", O_RDONLY|fstat|newfstatat\([0-9]+, ""|pread64|lseek|close|brk|mmap\(NULL, [0-9]+, PROT_READ\|PROT_WRITE, MAP_PRIVATE\|MAP_ANONYMOUS, -1|munmap|mprotect|mremap|madvise\(0x[0-9a-f]+, [0-9]+, MADV_HUGEPAGE|sysinfo|fcntl\([0-9]+, F_(GETFL|GETFD)|clock_gettime\(CLOCK_THREAD_CPUTIME_ID' "loading"
clock='clock_gettime\(CLOCK_THREAD_CPUTIME_ID'
strange "$tmp/phase2" "$clock" "generating"
strange "$tmp/phase3" 'munmap|brk|close' "destroying"
[ "$(grep -c pread64 "$tmp/phase1")" -gt 3 ] || { echo "the trace shows no reads: is it one?"; bad=1; }
threads=$(awk '{ print $1 }' "$tmp/trace" | sort -u | wc -l)
[ "$threads" = 1 ] || { echo "$threads threads or processes, expected one"; bad=1; }
[ $bad = 0 ] || exit 1
echo "loading: $(sed 's/(.*//' "$tmp/phase1" | sort | uniq -c | awk '{ printf "%s %s, ", $1, $2 }')generating: $(wc -l < "$tmp/phase2"), destroying: $(wc -l < "$tmp/phase3")"
