// The generator against its authors' vectors, and the passes against plain loops.
#include "sample/scan.h"

#include "sample/philox.h"
#include "sample_reference.h"

using namespace reference;

TEST_CASE("philox: the published vectors", "[sample]") {
    using C = pith::PhiloxCounter;
    CHECK(pith::philox({0, 0, 0, 0}, {0, 0}) == C{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(pith::philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == C{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(pith::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          C{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox: uniform numbers", "[sample]") {
    double sum = 0, squares = 0, most = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        const double u = pith::philox_uniform(7, i);
        REQUIRE((u >= 0 && u < 1));
        sum += u;
        squares += u * u;
        most = std::max(most, u);
    }
    CHECK(std::abs(sum / 1e5 - 0.5) < 0.004);
    CHECK(std::abs(squares / 1e5 - 1.0 / 3) < 0.004);
    CHECK(most > 0.9999);
    CHECK(pith::philox_uniform(7, 1) != pith::philox_uniform(8, 1));
    CHECK(pith::philox_uniform(7, 1) != pith::philox_uniform(7, uint64_t{1} << 32 | 1));
    CHECK(pith::philox_uniform(7, 1) != pith::philox_uniform(uint64_t{1} << 32 | 7, 1));
}

TEST_CASE("scan: exp", "[sample]") {
    const pith::Weigher weigh{0, 1};
    CHECK(weigh(0.0f) == 1.0f);
    double worst = 0;
    for (float y = 0; y > -87; y -= 0.00137f)
        worst = std::max(worst, std::abs(static_cast<double>(weigh(y)) / std::exp(static_cast<double>(y)) - 1));
    CHECK(worst < 3e-7);
    CHECK(weigh(-87.5f) == 0.0f);
    CHECK(weigh(-1e30f) == 0.0f);
    CHECK(weigh(-kInf) == 0.0f);
    for (const float scale : {1e-37f, 1e37f}) {
        const pith::Weigher extreme{3, scale};
        CHECK(extreme(3.0f) == 1.0f);
        CHECK(extreme(-kInf) == 0.0f);
    }
}

TEST_CASE("scan: the largest is the first of equals, at any place and length", "[sample]") {
    for (size_t n : {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 511, 512, 513, 527, 528, 1024, 1500}) {
        for (size_t at = 0; at < n; at += n < 64 ? 1 : 13) {
            std::vector<float> x = random_logits(n, 1, static_cast<uint32_t>(n));
            x[at] = 50;
            if (at + 3 < n) x[at + 3] = 50;
            if (at + 600 < n) x[at + 600] = 50;
            const pith::Largest found = pith::find_largest(x.data(), n);
            REQUIRE(found.value == 50);
            REQUIRE(found.index == at);
            REQUIRE(!found.nan);
            x[at] = std::numeric_limits<float>::quiet_NaN();
            REQUIRE(pith::find_largest(x.data(), n).nan);
        }
    }
    const std::vector<float> nothing(70, -kInf), zeros{-1, -0.0f, 0.0f, -0.0f};
    CHECK(pith::find_largest(nothing.data(), 70).value == -kInf);
    CHECK(pith::find_largest(nothing.data(), 0).value == -kInf);
    CHECK(pith::find_largest(zeros.data(), 4).index == 1);
}

TEST_CASE("scan: sums and visits", "[sample]") {
    for (size_t n : {1, 7, 16, 31, 32, 100, 512, 513, 1900}) {
        std::vector<float> x = random_logits(n, 4, 3);
        if (n > 20) x[20] = -kInf;
        std::vector<double> blocks((n + pith::kScanBlock - 1) / pith::kScanBlock);
        const float largest = *std::max_element(x.begin(), x.end());
        double expected = 0, total = 0;
        for (const float v : x) expected += std::exp(static_cast<double>(v - largest) * 0.5);
        const double sum = pith::sum_weights(x.data(), n, {largest, 0.5f}, blocks.data());
        for (const double b : blocks) total += b;
        CHECK(std::abs(sum / expected - 1) < 1e-6);
        CHECK(total == sum);

        float bound = 1;
        std::vector<size_t> seen, wanted;
        pith::for_each_above(x.data(), n, &bound, [&](size_t i) { seen.push_back(i); });
        for (size_t i = 0; i < n; i++)
            if (x[i] > 1) wanted.push_back(i);
        CHECK(seen == wanted);
    }
}
