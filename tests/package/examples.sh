#!/bin/sh
# The example programs do what they say, with the demo model and with mistakes.
set -eu
programs=$1 model=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
fail() { echo "$1"; cat out err; exit 1; }
# Runs a program that must end with the given status.
expect() {
    status=$1
    shift
    "$@" > out 2> err < /dev/null && code=0 || code=$?
    [ "$code" = "$status" ] || fail "$* ended with $code"
}

echo "generate: prompt and tokens on standard output, and nothing else"
expect 0 "$programs/generate" "$model" "Once upon a time" 20
[ ! -s err ] || fail "it wrote to standard error"
case $(cat out) in "Once upon a time"*" "*" "*) ;; *) fail "this is no continuation" ;; esac
[ "$(wc -c < out)" -gt 50 ] || fail "too little text"
expect 0 "$programs/generate" "$model" "Once upon a time" 10
mv out ten
expect 0 "$programs/generate" "$model" "Once upon a time" 20
head -c "$(wc -c < ten)" out | cmp - ten || fail "ten tokens are not the first of twenty"
expect 0 "$programs/generate" "$model" "$(awk 'BEGIN { while (i++ < 900) printf "word " }')" 5
expect 1 "$programs/generate" "$model/none" "Once"
grep -q "PITH_E_IO.*config.json" err || fail "the message names no file"
expect 1 "$programs/generate" "$model" "Once" 0
expect 1 "$programs/generate"

echo "stepwise_load"
expect 0 "$programs/stepwise_load" "$model" 4
grep -q "LlamaForCausalLM: 8 layers" out || fail "no description"
grep -q "loaded in [2-9] steps" out || fail "not in steps"

echo "perplexity"
printf 'The old man went down to the sea in the morning, and looked for his boat. It was gone. He sat down on the sand and waited.' > text
expect 0 "$programs/perplexity" "$model" text
mv out whole
awk '$1 == "perplexity" && $2 > 2 && $2 < 500 { ok = 1 } END { exit !ok }' whole || fail "an unlikely perplexity: $(cat whole)"
expect 0 "$programs/perplexity" "$model" text 8
grep -q "windows of 8" out || fail "the window was ignored"
"$programs/perplexity" "$model" - < text 2> err | cmp - whole || fail "a file and standard input differ"
expect 1 "$programs/perplexity" "$model" none

[ -x "$programs/chat" ] || { echo "chat was not built: not tested"; exit 0; }
echo "chat"
expect 0 "$programs/chat" "$model" -n 24 "Once upon a time"
mv out one
grep -q "^prefill: .*tokens/s" err && grep -q "^decode: .*tokens/s" err || fail "no rates"
for threads in 1 2 3; do
    expect 0 "$programs/chat" "$model" -n 24 --threads $threads --prompt "Once upon a time"
    cmp out one || fail "another text with $threads threads"
done
expect 0 "$programs/chat" "$model" -n 24 --temperature 0 --seed 1 "Once upon a time"
mv out greedy
expect 0 "$programs/chat" "$model" -n 24 --temperature 0 --seed 2 "Once upon a time"
cmp out greedy || fail "greedy text depends on the seed"
expect 0 "$programs/chat" "$model" -n 24 --top-k 5 --min-p 0.1 --repetition 1.2 --seed 3 --exact "Once upon a time"
printf 'Good morning, said the king.\nWhat then?\n' | "$programs/chat" "$model" -n 8 > out 2> err || fail "turns"
[ "$(grep -c '^> ' out)" = 3 ] || fail "not two turns"
# A context that is full ends a turn; the next starts afresh.
printf 'Once upon a time\nOnce more\n' | "$programs/chat" "$model" -n 500 -c 32 > out 2> err || fail "a full context"
grep -q "starting afresh" err || fail "nothing was said of the full context"
expect 1 "$programs/chat" "$model/none" "Once"

echo "chat: Ctrl-C stops a generation, rates are still printed"
"$programs/chat" "$model" -n 1000 --exact --threads 1 --temperature 1 "Once upon a time" > out 2> err < /dev/null &
chat=$!
while [ ! -s out ]; do
    kill -0 $chat || fail "it ended before it wrote"
    sleep 0.01
done
kill -INT $chat
wait $chat && code=0 || code=$?
[ "$code" = 130 ] || fail "it ended with $code"
grep -q "^decode:" err || fail "no rates"
