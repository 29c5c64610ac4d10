// A host that hands the library malformed folders, and the table its cases are written in.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "catch.h"
#include "fuzz.h"

namespace hostile {

using fuzz::Bytes;
using fuzz::Folder;
using fuzz::Tensor;
using Tensors = std::map<std::string, Tensor>;
using Members = std::map<std::string, std::string>;  // key -> its value, as JSON

constexpr pith_status kFormat = PITH_E_FORMAT, kUnsupported = PITH_E_UNSUPPORTED, kLimit = PITH_E_LIMIT;

// One malformed folder: what opening (or loading the tokenizer) must return, and a part of the message that names the culprit.
struct Case {
    std::string name;
    pith_status status;
    std::string culprit;
    Folder folder;
};
using Cases = std::vector<Case>;

// The folder's files, from memory; each name is checked to stay inside of a folder.
struct Disk {
    std::map<std::string, Bytes> files;  // "m/config.json" -> contents
    std::string broken;                  // this file's reads fail
    int open_files = 0, escapes = 0;

    void put(const std::string& folder, const Folder& contents) {
        for (const auto& [name, bytes] : contents) files[folder + "/" + name] = bytes;
    }
};

// Counts what is out, now and at most.
struct Heap {
    uint64_t live = 0, peak = 0;
};

class Host {
public:
    Host();
    ~Host();
    Host(const Host&) = delete;

    pith_env* env() const { return env_; }
    Disk disk;
    Heap heap;

private:
    pith_env* env_ = nullptr;
};

std::string object(const Members& members);
Members config_members();
// The good folder with one member of config.json replaced; NULL: removed.
Folder config(const char* key, const char* value);
Folder config(const Members& changes);
Folder good_model();
Folder model_of(const Tensors& tensors);
// A file with this header and data, whatever they are.
Bytes raw_file(const std::string& header, const Bytes& data = {});

template <class Damage>
Folder tensors(Damage damage) {
    Tensors all = fuzz::tiny_tensors();
    damage(all);
    return model_of(all);
}

void check_models(const Cases& cases);
void check_tokenizers(const Cases& cases);

// A message that a failure left is whole, and names this.
void check_message(const pith_error& error, pith_status status, const std::string& culprit);

}  // namespace hostile
