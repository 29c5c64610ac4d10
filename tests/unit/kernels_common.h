// For the kernel tests: random numbers, guarded buffers, matrices with what they stand for, and the tiers of this CPU.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "catch.h"
#include "kernels/kernels.h"

namespace kernel_test {

using namespace pith::kernels;

struct Random {
    uint64_t state = 1;
    uint32_t next() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state >> 33);
    }
    uint32_t below(uint32_t n) { return next() % n; }
    float uniform() { return static_cast<float>(next()) / 2147483648.0f * 2.0f - 1.0f; }  // [-1, 1)
    std::vector<float> floats(size_t n, float scale = 1.0f) {
        std::vector<float> out(n);
        for (float& v : out) v = uniform() * scale;
        return out;
    }
    std::vector<uint32_t> permutation(uint32_t n) {
        std::vector<uint32_t> out(n);
        for (uint32_t i = 0; i < n; i++) out[i] = i;
        for (uint32_t i = n; i > 1; i--) std::swap(out[i - 1], out[below(i)]);
        return out;
    }
};

// Memory at an alignment, with a pattern on both sides that is checked when it dies.
template <class T>
class Guarded {
public:
    explicit Guarded(size_t n, uint8_t fill = 0x5A) : n_(n), bytes_(new uint8_t[n * sizeof(T) + 3 * kGuard]) {
        uint8_t* raw = bytes_.get();
        memset(raw, kPattern, n * sizeof(T) + 3 * kGuard);
        data_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(raw) + 2 * kGuard - 1) / kGuard * kGuard);
        memset(static_cast<void*>(data_), fill, n * sizeof(T));
    }
    Guarded(Guarded&&) = default;
    ~Guarded() {
        if (bytes_) CHECK(intact());
    }
    bool intact() const {
        const uint8_t* begin = reinterpret_cast<const uint8_t*>(data_);
        const uint8_t* end = begin + n_ * sizeof(T);
        for (const uint8_t* p = bytes_.get(); p < begin; p++) {
            if (*p != kPattern) return false;
        }
        for (const uint8_t* p = end; p < bytes_.get() + n_ * sizeof(T) + 3 * kGuard; p++) {
            if (*p != kPattern) return false;
        }
        return true;
    }
    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return n_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }

private:
    static constexpr size_t kGuard = 64;
    static constexpr uint8_t kPattern = 0xC3;
    size_t n_;
    std::unique_ptr<uint8_t[]> bytes_;
    T* data_;
};

// The tables that this CPU runs; what is left out is said once. PITH_TEST_NO_SCALAR leaves out the scalar one too: in an emulator it is
// slow.
inline std::vector<const Table*> tiers() {
    std::vector<const Table*> out;
    for (uint32_t t = 0; t < static_cast<uint32_t>(Tier::Count); t++) {
        const Table* table = pith::kernels::table(static_cast<Tier>(t));
        if (t == 0 && std::getenv("PITH_TEST_NO_SCALAR")) {
            WARN("tier 0 is not run: PITH_TEST_NO_SCALAR");
        } else if (table && t <= static_cast<uint32_t>(best_tier())) {
            out.push_back(table);
        } else {
            WARN("tier " << t << (table ? " is not run: this CPU lacks it" : " is not built in"));
        }
    }
    return out;
}

uint16_t to_half(double value);  // round to nearest even, written apart from the library's
double from_half(uint16_t half);
inline uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
inline double from_bf16(uint16_t value) {
    const uint32_t bits = uint32_t{value} << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

// A packed matrix and the numbers it stands for, in the packed order of columns.
struct TestMatrix {
    Matrix matrix;
    std::unique_ptr<Guarded<uint8_t>> data;
    std::vector<double> values;  // [rows][cols]
    std::vector<uint32_t> perm;  // packed position -> column; empty: identity
    double at(uint32_t row, uint32_t col) const { return values[size_t{row} * matrix.cols + col]; }
};

TestMatrix dense_matrix(Type type, uint32_t rows, uint32_t cols, Random& random);
// Float rows held as 8 bits; `values` are what the codes stand for. source: NULL, or gets the float values.
TestMatrix q8_matrix(Type source_type, uint32_t rows, uint32_t cols, Random& random, std::vector<double>* source = nullptr);

struct Q4Options {
    uint32_t group = 128;
    bool asymmetric = false, perm = false;
    Type scale_type = Type::F16;
    uint32_t zero_offset = 1;  // 0: v2
};
TestMatrix q4_matrix(uint32_t rows, uint32_t cols, const Q4Options& options, Random& random);

// Tokens of activations, float and int8 both, in the matrix's order of columns.
struct TestActivations {
    std::vector<float> x;
    std::vector<int8_t> q;
    std::vector<float> scale;
    std::vector<int32_t> sum;
    Activations exact, fast;
    // The int8 form interleaved, if the tier has it.
    std::vector<int8_t> wide_q;
    std::vector<float> wide_scale;
    std::vector<int32_t> wide_sum;
    Activations wide;
};
TestActivations activations(const Table& table, const TestMatrix& m, uint32_t tokens, Random& random);

inline bool same_bits(const float* a, const float* b, size_t n) { return memcmp(a, b, n * sizeof(float)) == 0; }

}  // namespace kernel_test
