# Runs pith_bench on next to nothing and checks that its JSON is whole and its figures are finite and positive.
#   cmake -DPROGRAM=pith_bench -P check_bench.cmake
cmake_minimum_required(VERSION 3.25)
foreach(threads IN ITEMS 1 2)
  execute_process(COMMAND ${PROGRAM} --shape tiny --layers 1 --vocab 512 --prompt 20 --decode 4 --repeat 2 --buffer 8 --threads ${threads} --json
    OUTPUT_VARIABLE json RESULT_VARIABLE result ERROR_VARIABLE error)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "pith_bench: ${result}: ${error}")
  endif()
  foreach(key IN ITEMS threads weight_bytes_per_token prefill_tokens_per_s prefill_tokens_per_s_median decode_tokens_per_s
                       decode_tokens_per_s_median read_bandwidth_gb_s bandwidth_ratio bandwidth_ratio_median)
    string(JSON value GET "${json}" ${key})
    if(NOT value MATCHES "^[0-9.]+(e[-+]?[0-9]+)?$" OR NOT value GREATER 0)
      message(FATAL_ERROR "${key} is '${value}' in\n${json}")
    endif()
  endforeach()
  string(JSON turns LENGTH "${json}" turns)
  string(JSON bytes GET "${json}" weight_bytes_per_token)
  # q, k, v, o of 768 x 768 and three of 768 x 2048, at 4 bits and 2.5 bytes a group of 128; three norms; a head of 512.
  math(EXPR expected "(4 * 768 * 768 + 3 * 768 * 2048) / 2 + (4 * 768 * 768 + 3 * 768 * 2048) / 128 * 5 / 2 + 3 * 768 * 2 + 512 * 768 * 2")
  if(NOT turns EQUAL 2 OR NOT bytes EQUAL expected)
    message(FATAL_ERROR "turns ${turns}, weight bytes ${bytes}, expected 2 and ${expected}")
  endif()
endforeach()
