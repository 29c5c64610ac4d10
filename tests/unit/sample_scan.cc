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

namespace {

size_t find_largest(const std::vector<float>& x, const pith::ScanTable& scan, pith::Largest* largest) {
    std::vector<float> maxima(pith::scan_maxima(x.size()));
    *largest = scan.summarise(x.data(), x.size(), maxima.data());
    return scan.find(x.data(), x.size(), maxima.data(), largest->value);
}

}  // namespace

TEST_CASE("scan: exp", "[sample]") {
    const pith::Weigher weigher{0, 1};
    CHECK(weigh(weigher, 0.0f) == 1.0f);
    double worst = 0;
    for (float y = 0; y > -87; y -= 0.00137f)
        worst = std::max(worst, std::abs(static_cast<double>(weigh(weigher, y)) / std::exp(static_cast<double>(y)) - 1));
    CHECK(worst < 3e-7);
    CHECK(weigh(weigher, -87.5f) == 0.0f);
    CHECK(weigh(weigher, -1e30f) == 0.0f);
    CHECK(weigh(weigher, -kInf) == 0.0f);
    for (const float scale : {1e-37f, 1e37f}) {
        const pith::Weigher extreme{3, scale};
        CHECK(weigh(extreme, 3.0f) == 1.0f);
        CHECK(weigh(extreme, -kInf) == 0.0f);
    }
}

TEST_CASE("scan: the largest is the first of equals, at any place and length, and no NaN goes unseen", "[sample]") {
    for (const pith::ScanTier tier : tiers()) {
        const pith::ScanTable& scan = pith::scan_table(tier);
        pith::Largest largest;
        for (size_t n : {1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 511, 512, 513, 527, 528, 1024, 1500}) {
            for (size_t at = 0; at < n; at += n < 64 ? 1 : 13) {
                std::vector<float> x = random_logits(n, 1, static_cast<uint32_t>(n));
                x[at] = 50;
                if (at + 3 < n) x[at + 3] = 50;
                if (at + 600 < n) x[at + 600] = 50;
                REQUIRE(find_largest(x, scan, &largest) == at);
                REQUIRE(largest.value == 50);
                REQUIRE(!largest.nan);
                x[(at + 7) % n] = -kInf;
                find_largest(x, scan, &largest);
                REQUIRE(!largest.nan);
                x[at] = std::numeric_limits<float>::quiet_NaN();
                find_largest(x, scan, &largest);
                REQUIRE(largest.nan);
                x[at] = -x[at];
                find_largest(x, scan, &largest);
                REQUIRE(largest.nan);
            }
        }
        CHECK(find_largest(std::vector<float>(70, -kInf), scan, &largest) == 0);
        CHECK(largest.value == -kInf);
        find_largest({}, scan, &largest);
        CHECK(largest.value == -kInf);
        CHECK(find_largest({-1, -0.0f, 0.0f, -0.0f}, scan, &largest) == 1);
    }
}

TEST_CASE("scan: sums, lists and counts, the same bits on every tier", "[sample]") {
    for (size_t n : {1, 7, 16, 31, 32, 100, 512, 513, 1900, 40000}) {
        std::vector<float> x = random_logits(n, 4, 3);
        for (size_t i = 20; i < n; i += 333) x[i] = -kInf;
        const float largest = *std::max_element(x.begin(), x.end());
        const pith::Weigher weigher{largest, 0.5f};
        double expected = 0, entropy = 0, finite = 0, sum = 0, squares = 0;
        for (const float v : x) {
            if (v == -kInf) continue;
            const double y = static_cast<double>(v - largest) * 0.5, d = static_cast<double>(v - 0.25f);
            expected += std::exp(y);
            entropy += std::exp(y) * y;
            finite++;
            sum += d;
            squares += d * d;
        }
        std::vector<double> first;
        std::vector<float> first_maxima;
        for (const pith::ScanTier tier : tiers()) {
            const pith::ScanTable& scan = pith::scan_table(tier);
            std::vector<double> blocks(pith::scan_blocks(n));
            std::vector<float> maxima(pith::scan_maxima(n));
            scan.summarise(x.data(), n, maxima.data());
            const double mass = scan.sum_weights(x.data(), n, weigher, blocks.data());
            const pith::Moments m = scan.moments(x.data(), n, 0.25f);
            CHECK(std::abs(mass / expected - 1) < 1e-6);
            CHECK(std::abs(scan.sum_entropy(x.data(), n, weigher) - entropy) < 1e-6 * expected);
            CHECK(m.count == finite);
            CHECK(std::abs(m.sum - sum) < 1e-5 * finite);
            CHECK(std::abs(m.squares - squares) < 1e-5 * finite);
            std::vector<double> all = blocks;
            all.insert(all.end(), {mass, m.sum, m.squares, scan.sum_entropy(x.data(), n, weigher)});
            if (first.empty()) {
                first = all;
                first_maxima = maxima;
            }
            CHECK(all == first);
            CHECK(maxima == first_maxima);

            std::vector<int32_t> wanted, seen;
            size_t above = 0, group = 0, size = 0;
            for (const float v : maxima) above += v > 1;
            for (size_t i = 0; i < n; i++)
                if (x[i] > 1) wanted.push_back(static_cast<int32_t>(i));
            CHECK(scan.count_above(maxima.data(), maxima.size(), 1) == above);
            if (maxima.size() >= pith::kScanFolded) {
                std::vector<float> folded(pith::kScanFolded), expected(maxima.begin(), maxima.begin() + pith::kScanFolded);
                for (size_t i = pith::kScanFolded; i < maxima.size(); i++)
                    expected[i % pith::kScanFolded] = std::max(expected[i % pith::kScanFolded], maxima[i]);
                scan.fold(maxima.data(), maxima.size(), folded.data());
                CHECK(folded == expected);
            }
            // In pieces, as a short list makes it.
            std::vector<pith::Candidate> list(pith::kScanBlock + 3);
            while (group < pith::scan_blocks(n)) {
                const size_t was = group;
                size = scan.list_above(x.data(), n, maxima.data(), 1, list.data(), 0, list.size(), &group);
                REQUIRE(group > was);
                for (size_t i = 0; i < size; i++) {
                    seen.push_back(list[i].token);
                    REQUIRE(list[i].logit == x[static_cast<size_t>(list[i].token)]);
                }
            }
            CHECK(seen == wanted);
        }
    }
}
