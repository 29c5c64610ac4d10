# FATBINS (a list of files) to OUTPUT, C++ arrays of their bytes: for compilers whose assembler has no .incbin.
set(text "// Generated.\n#include \"device.h\"\n")
set(entries)
foreach(fatbin IN LISTS FATBINS)
  cmake_path(GET fatbin STEM name)
  file(READ ${fatbin} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(APPEND text "alignas(64) static const unsigned char kernels_${name}[] = {${bytes}0};\n")
  string(APPEND entries "    {\"${name}\", kernels_${name}},\n")
endforeach()
string(APPEND text "namespace pith::cuda {\nconst EmbeddedKernels kEmbeddedKernels[] = {\n${entries}};\n"
  "const size_t kEmbeddedKernelCount = sizeof kEmbeddedKernels / sizeof kEmbeddedKernels[0];\n}  // namespace pith::cuda\n")
file(WRITE ${OUTPUT} "${text}")
