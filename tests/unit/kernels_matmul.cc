// Packing and matrix products: against double precision, against themselves in every cutting, and across tiers.
#include "kernels_common.h"

using namespace kernel_test;

namespace {

struct Case {
    std::string name;
    TestMatrix m;
};

std::vector<Case> cases(Random& random) {
    std::vector<Case> out;
    for (const Type type : {Type::F32, Type::F16, Type::BF16}) {
        for (const auto& [rows, cols] : {std::pair{16u, 8u}, {1u, 40u}, {37u, 96u}, {100u, 130u}, {15u, 1u}, {160u, 67u}}) {
            out.push_back({"dense " + std::to_string(static_cast<int>(type)) + " " + std::to_string(rows) + "x" + std::to_string(cols),
                           dense_matrix(type, rows, cols, random)});
        }
    }
    for (const Type from : {Type::F32, Type::F16, Type::BF16}) {
        for (const auto& [rows, cols] : {std::pair{16u, 8u}, {1u, 40u}, {37u, 128u}, {100u, 264u}, {129u, 1024u}}) {
            out.push_back({"q8 of " + std::to_string(static_cast<int>(from)) + " " + std::to_string(rows) + "x" + std::to_string(cols),
                           q8_matrix(from, rows, cols, random)});
        }
    }
    struct Shape {
        uint32_t rows, cols, group;
    };
    for (const Shape s : {Shape{16, 8, 32},
                          {8, 40, 32},
                          {40, 96, 64},
                          {104, 128, 128},
                          {24, 136, 128},
                          {72, 136, 160},
                          {16, 512, 512},
                          {88, 320, 96},
                          {48, 8, 128},
                          {136, 456, 128}}) {
        for (uint32_t flags = 0; flags < 8; flags++) {
            Q4Options o;
            o.group = s.group;
            o.asymmetric = flags & 1;
            o.perm = flags & 2;
            o.zero_offset = flags & 4 ? 0 : 1;
            o.scale_type = flags % 3 == 0 ? Type::F16 : flags % 3 == 1 ? Type::BF16 : Type::F32;
            out.push_back({"q4 " + std::to_string(s.rows) + "x" + std::to_string(s.cols) + " group " + std::to_string(s.group) + " flags " +
                               std::to_string(flags),
                           q4_matrix(s.rows, s.cols, o, random)});
        }
    }
    return out;
}

// What the product must be and how far rounding may carry it: 1e-6 of the sum of magnitudes.
void check_product(const TestMatrix& m, const std::vector<double>& x, const float* y, size_t y_stride, uint32_t tokens) {
    double worst = 0.0;
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t r = 0; r < m.matrix.rows; r++) {
            double sum = 0.0, size = 1e-30;
            for (uint32_t k = 0; k < m.matrix.cols; k++) {
                const double term = m.at(r, k) * x[size_t{t} * m.matrix.cols + k];
                sum += term;
                size += std::fabs(term);
            }
            const double error = std::fabs(sum - static_cast<double>(y[t * y_stride + r])) / size;
            worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
        }
    }
    CHECK(worst < 1e-6);
}

std::vector<double> dequantised(const TestActivations& a, uint32_t tokens, uint32_t cols, uint32_t block) {
    std::vector<double> out;
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t k = 0; k < cols; k++) {
            out.push_back(static_cast<double>(a.q[t * a.fast.q_stride + k]) *
                          static_cast<double>(a.scale[t * a.fast.block_stride + k / block]));
        }
    }
    return out;
}

void check_cuttings(const Table& table, const Matrix& w, const Activations& x, uint32_t tokens) {
    const size_t stride = w.rows + 3;
    Guarded<float> whole(stride * tokens), cut(stride * tokens);
    for (uint32_t t = 0; t < tokens; t++) table.matmul(w, x, t, t + 1, 0, w.tiles(), whole.data(), stride);
    Random random{tokens};
    for (const uint32_t count : {2u, 3u, 5u, 7u, 12u, 33u}) {  // tokens at once
        memset(static_cast<void*>(cut.data()), 0x5A, cut.size() * sizeof(float));
        for (uint32_t t = 0; t < tokens; t += count) {
            for (uint32_t tile = 0; tile < w.tiles();) {
                const uint32_t end = std::min(tile + 1 + random.below(5), w.tiles());
                table.matmul(w, x, t, std::min(t + count, tokens), tile, end, cut.data(), stride);
                tile = end;
            }
        }
        CHECK(same_bits(whole.data(), cut.data(), cut.size()));
    }
    // Nothing beyond the tiles and tokens asked for is written.
    if (tokens < 3 || w.tiles() < 2) return;
    memset(static_cast<void*>(cut.data()), 0x5A, cut.size() * sizeof(float));
    table.matmul(w, x, 1, tokens - 1, 1, w.tiles(), cut.data(), stride);
    for (size_t i = 0; i < cut.size(); i++) {
        const size_t t = i / stride, row = i % stride;
        const bool written = t >= 1 && t < tokens - 1 && row >= 16 && row < w.rows;
        uint32_t bits;
        memcpy(&bits, &cut[i], 4);
        if (!written && bits != 0x5A5A5A5A) FAIL("token " << t << " row " << row << " was written");
    }
}

// The interleaved form gives the same bits, writes no token or row that was not asked for, and may be cut at whole groups.
void check_wide(const Table& table, const Matrix& w, const TestActivations& a, uint32_t tokens) {
    if (table.lanes == 1) return;
    REQUIRE(table.lanes == kTokenLanes);
    const size_t stride = w.rows + 3;
    Guarded<float> plain(stride * tokens), wide(stride * tokens);
    table.matmul(w, a.fast, 0, tokens, 0, w.tiles(), plain.data(), stride);
    table.matmul(w, a.wide, 0, tokens, 0, w.tiles(), wide.data(), stride);
    CHECK(same_bits(plain.data(), wide.data(), plain.size()));
    memset(static_cast<void*>(wide.data()), 0x5A, wide.size() * sizeof(float));
    for (uint32_t t = 0; t < tokens; t += 16) {
        for (uint32_t tile = 0; tile < w.tiles(); tile += 3)
            table.matmul(w, a.wide, t, std::min(t + 16, tokens), tile, std::min(tile + 3, w.tiles()), wide.data(), stride);
    }
    CHECK(same_bits(plain.data(), wide.data(), plain.size()));
    if (tokens < 11) return;
    Guarded<float> few(stride * tokens);
    table.matmul(w, a.wide, 8, 11, 0, w.tiles(), few.data(), stride);
    for (size_t i = 0; i < few.size(); i++) {
        const bool wanted = i / stride >= 8 && i / stride < 11 && i % stride < w.rows;
        uint32_t bits;
        memcpy(&bits, &few[i], 4);
        if (wanted ? !same_bits(&few[i], &plain[i], 1) : bits != 0x5A5A5A5A) FAIL("token " << i / stride << " row " << i % stride);
    }
}

}  // namespace

TEST_CASE("matmul equals the sum in double precision, in every cutting", "[kernels]") {
    for (const Table* table : tiers()) {
        Random random;
        for (const Case& c : cases(random)) {
            INFO(table->name << " " << c.name);
            const Matrix& w = c.m.matrix;
            CHECK(reinterpret_cast<uintptr_t>(w.data) % kWeightAlignment == 0);
            CHECK(w.tile_bytes % kWeightAlignment == 0);
            constexpr uint32_t kTokens = 33;
            const TestActivations a = activations(*table, c.m, kTokens, random);
            const size_t stride = w.rows + 5;
            Guarded<float> y(stride * kTokens);
            table->matmul(w, a.exact, 0, kTokens, 0, w.tiles(), y.data(), stride);
            check_product(c.m, std::vector<double>(a.x.begin(), a.x.end()), y.data(), stride, kTokens);
            check_cuttings(*table, w, a.exact, kTokens);
            if (w.type != Type::Q4 && w.type != Type::Q8) continue;
            table->matmul(w, a.fast, 0, kTokens, 0, w.tiles(), y.data(), stride);
            check_product(c.m, dequantised(a, kTokens, w.cols, activation_block(w.group)), y.data(), stride, kTokens);
            check_cuttings(*table, w, a.fast, kTokens);
            check_wide(*table, w, a, kTokens);
        }
    }
}

TEST_CASE("the largest codes, activations and zero points do not overflow", "[kernels]") {
    for (const Table* table : tiers()) {
        INFO(table->name);
        for (const uint32_t group : {32u, 64u, 128u, 512u}) {
            for (const uint32_t code : {0u, 15u}) {
                constexpr uint32_t kCols = 512;
                Matrix w;
                w.type = Type::Q4;
                w.rows = 8;
                w.cols = kCols;
                w.group = group;
                w.asymmetric = true;
                w.wide_scales = true;
                w.tile_bytes = tile_bytes(w);
                Guarded<uint8_t> data(w.tile_bytes);
                w.data = data.data();
                const std::vector<uint32_t> qweight(kCols / 8 * 8, code * 0x11111111u);
                const std::vector<uint32_t> qzeros(w.groups(), code ? 0u : 0xFFFFFFFFu);  // 0 (v2) or 16 (v1)
                const std::vector<float> scales(w.groups() * 8, 1.0f);
                pack_gptq(w, data.data(), {qweight.data(), qzeros.data(), scales.data(), Type::F32, code ? 0u : 1u, nullptr}, 0, 1);
                const uint32_t block = activation_block(group);
                std::vector<float> x(kCols, -3.0f), scale(kCols / block);
                std::vector<int8_t> q(kCols);
                std::vector<int32_t> sum(kCols / block);
                table->quantise(x.data(), kCols, block, nullptr, 1, q.data(), scale.data(), sum.data());
                CHECK(q[0] == -127);
                CHECK(sum[0] == static_cast<int32_t>(127 * block));
                Activations a;
                a.q = q.data();
                a.scale = scale.data();
                a.sum = sum.data();
                a.q_stride = kCols;
                a.block_stride = kCols / block;
                float y[8];
                table->matmul(w, a, 0, 1, 0, 1, y, 8);
                const float expected = -3.0f * kCols * (code ? 15.0f : -16.0f);
                for (const float v : y) CHECK(v == Approx(expected).epsilon(1e-6));
            }
        }
    }
}

TEST_CASE("worked examples of the GPTQ layout", "[kernels]") {
    // Column 0 holds the example; the seven others repeat it.
    const auto row = [](const Table& table, std::vector<uint32_t> words, std::vector<uint32_t> zeros, std::vector<float> scales,
                        uint32_t group, uint32_t offset, const uint32_t* perm, uint32_t lane = 0) {
        Matrix w;
        w.type = Type::Q4;
        w.rows = 8;
        w.cols = static_cast<uint32_t>(words.size()) * 8;
        w.group = group;
        w.asymmetric = true;
        w.wide_scales = true;
        w.tile_bytes = tile_bytes(w);
        Guarded<uint8_t> data(w.tile_bytes);
        w.data = data.data();
        std::vector<uint32_t> qweight;
        std::vector<float> all_scales;
        for (const uint32_t word : words) qweight.insert(qweight.end(), 8, word);
        for (const float scale : scales) all_scales.insert(all_scales.end(), 8, scale);
        pack_gptq(w, data.data(), {qweight.data(), zeros.data(), all_scales.data(), Type::F32, offset, perm}, 0, 1);
        std::vector<float> out;
        for (uint32_t k = 0; k < w.cols; k++) {
            std::vector<float> x(w.cols, 0.0f);
            x[k] = 1.0f;
            Activations a;
            a.x = x.data();
            a.x_stride = w.cols;
            float y[8];
            table.matmul(w, a, 0, 1, 0, 1, y, 8);
            out.push_back(y[lane]);
        }
        return out;
    };
    using Row = std::vector<float>;
    for (const Table* table : tiers()) {
        INFO(table->name);
        CHECK(row(*table, {0x76543210}, {0x77777777}, {0.5f}, 32, 1, nullptr) == Row{-4, -3.5f, -3, -2.5f, -2, -1.5f, -1, -0.5f});
        CHECK(row(*table, {0x76543210}, {0x77777777}, {0.5f}, 32, 0, nullptr) == Row{-3.5f, -3, -2.5f, -2, -1.5f, -1, -0.5f, 0});
        for (uint32_t lane = 0; lane < 8; lane++) {  // 0x87654321: zero points 2..9 (v1), 1..8 (v2)
            const float z = static_cast<float>(lane);
            CHECK(row(*table, {0x76543210}, {0x87654321}, {1.0f}, 32, 1, nullptr, lane)[0] == -2 - z);
            CHECK(row(*table, {0x76543210}, {0x87654321}, {1.0f}, 32, 0, nullptr, lane)[7] == 6 - z);
        }
        // Act-order: the columns in sorted order. Groups of 4 are below what the kernels take, so one scale serves here.
        const uint32_t perm[8] = {1, 3, 4, 6, 0, 2, 5, 7};
        CHECK(row(*table, {0x76543210}, {0x77777777}, {0.5f}, 32, 1, perm) == Row{-3.5f, -2.5f, -2, -1, -4, -3, -1.5f, -0.5f});
    }
}

TEST_CASE("the packed codes are the documented bytes", "[kernels]") {
    Matrix w;
    w.type = Type::Q4;
    w.rows = 8;
    w.cols = 8;
    w.group = 32;
    w.tile_bytes = tile_bytes(w);
    REQUIRE(w.tile_bytes == 128);
    Guarded<uint8_t> data(w.tile_bytes);
    const std::vector<uint32_t> qweight(8, 0x75206431);  // sorted order of the act-order example
    const uint32_t zeros = 0x77777777;
    const std::vector<uint16_t> scales(8, 0x3800);
    pack_gptq(w, data.data(), {qweight.data(), &zeros, scales.data(), Type::F16, 1, nullptr}, 0, 1);
    const uint8_t expected[4] = {0x01, 0x23, 0x54, 0x76};  // low nibbles 1 3 4 6, high nibbles 0 2 5 7
    for (uint32_t r = 0; r < 16; r++) {
        for (uint32_t j = 0; j < 4; j++) CHECK(data[64 + r * 4 + j] == (r < 8 ? expected[j] : 0));
        CHECK(data[r * 2 + 1] == (r < 8 ? 0x38 : 0));
    }
}

TEST_CASE("8-bit weights are within half a step of the float ones, at the documented place", "[kernels]") {
    Random random;
    for (const Type type : {Type::F32, Type::F16, Type::BF16}) {
        std::vector<double> source;
        const TestMatrix m = q8_matrix(type, 37, 264, random, &source);
        for (uint32_t r = 0; r < 37; r++) {
            for (uint32_t first = 0; first < 264; first += 128) {
                double largest = 0, worst = 0;
                for (uint32_t k = first; k < std::min(first + 128, 264u); k++) {
                    largest = std::max(largest, std::fabs(source[r * 264 + k]));
                    worst = std::max(worst, std::fabs(source[r * 264 + k] - m.at(r, k)));
                }
                CHECK(worst <= largest / 127 * 0.50001);
            }
        }
        for (const Table* table : tiers()) {
            std::vector<float> row(264);
            for (const uint32_t r : {0u, 15u, 16u, 36u}) {
                table->tile_row(m.matrix, r, row.data());
                for (uint32_t k = 0; k < 264; k++) CHECK(row[k] == static_cast<float>(m.at(r, k)));
            }
        }
    }
    CHECK(tile_bytes(q8_matrix(Type::F16, 1, 2048, random).matrix) * 32 == size_t{2048} * 16 * 33);
}

TEST_CASE("the largest 8-bit codes and activations do not overflow; NaN, infinity and next to nothing", "[kernels]") {
    constexpr uint32_t kCols = 256;
    for (const Table* table : tiers()) {
        INFO(table->name);
        for (const float value : {1.0f, -1.0f, 1.0e-38f, 0.0f, 3.0e38f, std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
            for (const bool one : {false, true}) {  // all weights, or one of the second group
                std::vector<float> weights(2 * kCols, one ? 0.5f : value);
                if (one) weights[200] = value;
                Matrix w;
                w.type = Type::Q8;
                w.rows = 2;
                w.cols = kCols;
                w.group = kQ8Group;
                w.tile_bytes = tile_bytes(w);
                Guarded<uint8_t> data(w.tile_bytes);
                w.data = data.data();
                pack_q8(w, data.data(), weights.data(), Type::F32, 0, 1);
                std::vector<float> x(kCols, -3.0f), scale(2);
                std::vector<int8_t> q(kCols);
                std::vector<int32_t> sum(2);
                table->quantise(x.data(), kCols, activation_block(kQ8Group), nullptr, 1, q.data(), scale.data(), sum.data());
                Activations a;
                a.q = q.data();
                a.scale = scale.data();
                a.sum = sum.data();
                float fast[2], exact[2];
                table->matmul(w, a, 0, 1, 0, 1, fast, 2);
                a.q = nullptr;
                a.x = x.data();
                table->matmul(w, a, 0, 1, 0, 1, exact, 2);
                if (!std::isfinite(value)) {
                    CHECK(std::isnan(fast[0]));
                    CHECK(std::isnan(exact[0]));
                    CHECK(std::isnan(fast[1]) == !one);
                } else if (value < 1.0e30f) {
                    const double expected = one ? -3.0 * (0.5 * 255 + static_cast<double>(value)) : -3.0 * 256 * static_cast<double>(value);
                    CHECK(fast[0] == Approx(expected).epsilon(5e-3).margin(1e-30));
                    CHECK(exact[0] == Approx(expected).epsilon(5e-3).margin(1e-30));
                }
            }
        }
    }
}

TEST_CASE("tiers agree, and packed bytes stay near the file's", "[kernels]") {
    Random random;
    const TestMatrix m = q4_matrix(128, 1024, {}, random);
    CHECK(m.matrix.tile_bytes * m.matrix.tiles() * 8 <= size_t{128} * 1024 * 4.16);
    const TestActivations a = activations(*table(Tier::Scalar), m, 5, random);
    std::vector<float> reference;
    for (const Table* table : tiers()) {
        for (const Activations* x : {&a.fast, &a.exact}) {
            std::vector<float> y(128 * 5);
            table->matmul(m.matrix, *x, 0, 5, 0, m.matrix.tiles(), y.data(), 128);
            if (x == &a.exact) continue;
            if (reference.empty()) reference = y;
            for (size_t i = 0; i < y.size(); i++) CHECK(y[i] == Approx(reference[i]).margin(1e-5).epsilon(1e-5));
        }
    }
}

TEST_CASE("NaN and infinity in activations reach the product", "[kernels]") {
    Random random;
    const TestMatrix m = q4_matrix(24, 256, {}, random);
    for (const Table* table : tiers()) {
        INFO(table->name);
        for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
            for (const uint32_t at : {0u, 7u, 200u, 255u}) {
                std::vector<float> x = random.floats(256), scale(8);
                x[at] = bad;
                std::vector<int8_t> q(256);
                std::vector<int32_t> sum(8);
                table->quantise(x.data(), 256, activation_block(128), nullptr, 1, q.data(), scale.data(), sum.data());
                Activations a;
                a.q = q.data();
                a.scale = scale.data();
                a.sum = sum.data();
                std::vector<float> y(24);
                table->matmul(m.matrix, a, 0, 1, 0, 2, y.data(), 24);
                for (const float v : y) CHECK(std::isnan(v));
            }
        }
    }
}
