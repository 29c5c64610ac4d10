// What pith_env_device_info tells of the host.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace pith {

void cpu_name(char* name, size_t capacity);               // the processor's own name for itself, or "CPU"
void system_memory(uint64_t* total, uint64_t* available);  // bytes; 0: unknown

}  // namespace pith
