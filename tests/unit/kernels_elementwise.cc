// Norms, activations, rope, conversions and the int8 quantiser, and the choice of a tier.
#include "kernels/tables.h"
#include "kernels_common.h"

using namespace kernel_test;

namespace {

constexpr uint32_t kSizes[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 2048, 4099};

}  // namespace

TEST_CASE("rms_norm", "[kernels]") {
    for (const Table* table : tiers()) {
        Random random;
        for (const uint32_t n : kSizes) {
            INFO(table->name << " " << n);
            const std::vector<float> x = random.floats(n, 3.0f), weight = random.floats(n);
            Guarded<float> y(n), in_place(n);
            table->rms_norm(x.data(), weight.data(), n, 1e-5f, y.data());
            double squares = 0.0;
            for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
            const double scale = 1.0 / std::sqrt(squares / n + 1e-5);
            for (uint32_t i = 0; i < n; i++)
                CHECK(y[i] == Approx(static_cast<double>(x[i]) * scale * static_cast<double>(weight[i])).epsilon(2e-6).margin(1e-9));
            memcpy(in_place.data(), x.data(), n * sizeof(float));
            table->rms_norm(in_place.data(), weight.data(), n, 1e-5f, in_place.data());
            CHECK(same_bits(in_place.data(), y.data(), n));
        }
    }
}

TEST_CASE("silu_mul, over the whole range of its input", "[kernels]") {
    for (const Table* table : tiers()) {
        Random random;
        for (const uint32_t n : kSizes) {
            INFO(table->name << " " << n);
            std::vector<float> gate = random.floats(n, n % 2 ? 10.0f : 200.0f), up = random.floats(n);
            Guarded<float> y(n), in_place(n);
            table->silu_mul(gate.data(), up.data(), n, y.data());
            for (uint32_t i = 0; i < n; i++) {
                const double g = static_cast<double>(gate[i]);
                CHECK(y[i] == Approx(g / (1.0 + std::exp(-g)) * static_cast<double>(up[i])).epsilon(g > -80 ? 1e-5 : 1.0).margin(1e-30));
            }
            memcpy(in_place.data(), gate.data(), n * sizeof(float));
            table->silu_mul(in_place.data(), up.data(), n, in_place.data());
            CHECK(same_bits(in_place.data(), y.data(), n));
        }
        const float special[4] = {std::nanf(""), HUGE_VALF, -1e30f, 0.0f}, one[4] = {1, 1, 1, 1};
        float y[4];
        table->silu_mul(special, one, 4, y);
        CHECK(std::isnan(y[0]));
        CHECK(y[1] == HUGE_VALF);
        CHECK(y[2] == 0.0f);
        CHECK(y[3] == 0.0f);
    }
}

TEST_CASE("add and rope", "[kernels]") {
    for (const Table* table : tiers()) {
        Random random;
        for (const uint32_t n : kSizes) {
            INFO(table->name << " " << n);
            const std::vector<float> x = random.floats(2 * n), c = random.floats(n), s = random.floats(n);
            Guarded<float> y(2 * n), z(n);
            memcpy(y.data(), x.data(), 2 * n * sizeof(float));
            table->rope(y.data(), n, c.data(), s.data());
            for (uint32_t i = 0; i < n; i++) {
                const double a = x[i], b = x[n + i], co = c[i], si = s[i];
                CHECK(y[i] == Approx(a * co - b * si).margin(3e-7));
                CHECK(y[n + i] == Approx(b * co + a * si).margin(3e-7));
            }
            memcpy(z.data(), c.data(), n * sizeof(float));
            table->add(s.data(), n, z.data());
            for (uint32_t i = 0; i < n; i++) CHECK(z[i] == c[i] + s[i]);
        }
    }
}

TEST_CASE("every half float converts exactly, and floats round to nearest even", "[kernels]") {
    std::vector<uint16_t> halves(65536);
    for (uint32_t i = 0; i < 65536; i++) halves[i] = static_cast<uint16_t>(i);
    for (const Table* table : tiers()) {
        INFO(table->name);
        Guarded<float> y(65535);
        table->to_float(Type::F16, halves.data(), y.size(), y.data());
        int wrong = 0;
        for (uint32_t i = 0; i < y.size(); i++) {
            const double expected = from_half(halves[i]);
            wrong += std::isnan(expected) ? !std::isnan(y[i]) : static_cast<double>(y[i]) != expected;
        }
        CHECK(wrong == 0);
        table->to_float(Type::BF16, halves.data(), y.size(), y.data());
        for (uint32_t i = 0; i < y.size(); i++) {
            uint32_t bits;
            memcpy(&bits, &y[i], 4);
            wrong += !std::isnan(y[i]) && bits != i << 16;
        }
        CHECK(wrong == 0);

        // float to half, through the cache: random bits of every exponent, and the ties
        constexpr uint32_t kDim = 512;
        std::vector<uint16_t> k_page(64 * kDim), v_page(64 * kDim);
        void* const k = k_page.data();
        void* const v = v_page.data();
        Random random;
        for (uint32_t round = 0; round < 64; round++) {
            std::vector<float> from(kDim);
            for (uint32_t i = 0; i < kDim; i++) {
                uint32_t bits = random.next() << 16 ^ random.next();
                if (i % 2) bits = (bits & 0x8FFFE000) | 0x30000000 | (i % 4 == 1 ? 0x1000 : 0) | (i % 8 == 3 ? 0x0FFF : 0);
                memcpy(&from[i], &bits, 4);
            }
            table->kv_store({&k, &v, 64, 1, kDim, Type::F16, Type::F16}, round, from.data(), from.data());
            for (uint32_t i = 0; i < kDim; i++) {
                const uint16_t expected = to_half(static_cast<double>(from[i]));
                const uint16_t in_k = k_page[i * 64 + round], in_v = v_page[round * kDim + i];
                wrong += std::isnan(from[i]) ? !std::isnan(from_half(in_v)) || !std::isnan(from_half(in_k))
                                             : in_v != expected || in_k != expected;
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("a row of a tiled embedding", "[kernels]") {
    Random random;
    for (const Type type : {Type::F32, Type::F16, Type::BF16}) {
        const TestMatrix m = dense_matrix(type, 37, 50, random);
        for (const Table* table : tiers()) {
            for (const uint32_t row : {0u, 15u, 16u, 36u}) {
                Guarded<float> y(50);
                table->tile_row(m.matrix, row, y.data());
                for (uint32_t k = 0; k < 50; k++) CHECK(static_cast<double>(y[k]) == m.at(row, k));
            }
        }
    }
}

TEST_CASE("quantise", "[kernels]") {
    for (const Table* table : tiers()) {
        Random random;
        for (const uint32_t cols : {8u, 40u, 64u, 136u, 1000u}) {
            for (const uint32_t block : {32u, 64u, 128u}) {
                for (const bool permuted : {false, true}) {
                    INFO(table->name << " " << cols << " in blocks of " << block << (permuted ? ", gathered" : ""));
                    const std::vector<float> x = random.floats(cols, 5.0f);
                    const std::vector<uint32_t> perm = random.permutation(cols);
                    const uint32_t blocks = (cols + block - 1) / block;
                    Guarded<int8_t> q(cols);
                    Guarded<float> scale(blocks);
                    Guarded<int32_t> sum(blocks);
                    table->quantise(x.data(), cols, block, permuted ? perm.data() : nullptr, 1, q.data(), scale.data(), sum.data());
                    for (uint32_t b = 0; b < blocks; b++) {
                        int total = 0, largest = 0;
                        for (uint32_t i = b * block; i < std::min(cols, (b + 1) * block); i++) {
                            total += q[i];
                            largest = std::max(largest, std::abs(int{q[i]}));
                            const float expected = x[permuted ? perm[i] : i];
                            if (std::fabs(static_cast<float>(q[i]) * scale[b] - expected) > 0.5001f * scale[b]) FAIL("position " << i);
                        }
                        CHECK(sum[b] == -total);
                        CHECK(largest == 127);
                    }
                }
            }
        }
        std::vector<float> tiny(64, 1e-38f);
        tiny[40] = -1e-44f;
        int8_t q[64];
        float scale[2];
        int32_t sum[2];
        table->quantise(tiny.data(), 64, 32, nullptr, 1, q, scale, sum);
        for (const int8_t v : q) CHECK(v == 0);
        CHECK((scale[0] == 0.0f && scale[1] == 0.0f && sum[0] == 0 && sum[1] == 0));
        tiny.assign(64, 3.4e38f);
        table->quantise(tiny.data(), 64, 64, nullptr, 1, q, scale, sum);
        CHECK(q[0] == 127);
        CHECK(std::isfinite(scale[0]));
    }
}

TEST_CASE("a tier is chosen only with everything that it uses", "[kernels]") {
    constexpr uint32_t kLeaf1 = 1u << 12 | 1u << 27 | 1u << 29, kAvx2 = 1u << 5, kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31,
                       kVnni = 1u << 11;
    CHECK(tier_of({0, 0, 0, 0}) == Tier::Scalar);
    CHECK(tier_of({kLeaf1, kAvx2, 0, 7}) == Tier::Avx2);
    CHECK(tier_of({kLeaf1, kAvx2 | kAvx512, kVnni, 0xE7}) == Tier::Avx512);
    CHECK(tier_of({kLeaf1, kAvx2 | kAvx512, kVnni, 7}) == Tier::Avx2);    // the OS does not save zmm
    CHECK(tier_of({kLeaf1, kAvx2 | kAvx512, kVnni, 3}) == Tier::Scalar);  // nor ymm
    CHECK(tier_of({kLeaf1, kAvx2 | kAvx512, 0, 0xE7}) == Tier::Avx2);     // no VNNI
    CHECK(tier_of({kLeaf1, kAvx512, kVnni, 0xE7}) == Tier::Scalar);       // no AVX2
    for (const uint32_t bit : {16u, 17u, 30u, 31u}) CHECK(tier_of({kLeaf1, kAvx2 | (kAvx512 & ~(1u << bit)), kVnni, 0xE7}) == Tier::Avx2);
    for (const uint32_t bit : {12u, 27u, 29u}) CHECK(tier_of({kLeaf1 & ~(1u << bit), kAvx2 | kAvx512, kVnni, 0xE7}) == Tier::Scalar);
    for (uint32_t t = 0; t < static_cast<uint32_t>(Tier::Count); t++) {
        const Table* table = pith::kernels::table(static_cast<Tier>(t));
        if (table) CHECK(table->tier == static_cast<Tier>(t));
    }
    REQUIRE(pith::kernels::table(Tier::Scalar));
    CHECK(pith::kernels::table(best_tier()));
}
