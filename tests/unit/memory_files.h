// pith_files over bytes in memory, for tests: it can fail the k-th call and counts what is open.
#pragma once
#include <pith/env.h>
#include <string.h>

#include <map>
#include <string>

struct MemoryFiles {
    std::map<std::string, std::string> content;  // by the exact path that is opened
    int fail_call = -1;                          // this call (open or read, counted from 0) fails with code 5
    int calls = 0, open_files = 0;
    uint64_t bytes_read = 0;
    pith_files files{sizeof(pith_files), this, open, read, close};

    MemoryFiles() = default;
    MemoryFiles(const MemoryFiles&) = delete;  // `files` points here

    std::string& operator[](const std::string& path) { return content[path]; }

    static int32_t open(void* user, const char* name, void** file, uint64_t* size) {
        MemoryFiles& self = *static_cast<MemoryFiles*>(user);
        if (self.calls++ == self.fail_call) return 5;
        const auto found = self.content.find(name);
        if (found == self.content.end()) return 2;
        self.open_files++;
        *file = &found->second;
        *size = found->second.size();
        return 0;
    }
    static int32_t read(void* user, void* file, uint64_t offset, void* to, size_t size) {
        MemoryFiles& self = *static_cast<MemoryFiles*>(user);
        if (self.calls++ == self.fail_call) return 5;
        const std::string& bytes = *static_cast<std::string*>(file);
        if (offset > bytes.size() || size > bytes.size() - offset) return 6;
        memcpy(to, bytes.data() + offset, size);
        self.bytes_read += size;
        return 0;
    }
    static void close(void* user, void*) { static_cast<MemoryFiles*>(user)->open_files--; }
};
