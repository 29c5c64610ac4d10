// A tiny model opened through files in memory, with everything counted.
#pragma once
#include <string>
#include <vector>

#include "base_memory.h"
#include "catch.h"
#include "memory_files.h"
#include "model/weights.h"
#include "model_tiny.h"

struct OpenedModel {
    TestMemory memory;
    MemoryFiles files;
    pith::ModelFile model{memory.allocator};
    pith_error error{};
    pith_status status = PITH_OK;

    OpenedModel() = default;
    explicit OpenedModel(const TinyModel& tiny) {
        tiny.install(files);
        open();
    }
    pith_status open() { return status = pith::open_model(files.files, memory.allocator, "m", &model, &error); }
    std::string message() const { return error.message; }
    template <class T>
    std::vector<T> values(const pith::TensorView& view) {
        std::vector<T> result(view.bytes / sizeof(T));
        REQUIRE(pith::read_tensor(model, view, 0, result.data(), view.bytes, &error) == PITH_OK);
        return result;
    }
};
