// Coefficients of 2^f = 1 + f * (c1 + c2 f + ... ) on [-0.5, 0.5], fitted at Chebyshev nodes; error of the sum 1e-8, relative.
#pragma once
namespace pith::kernels {
namespace {
inline constexpr float kExp2[6] = {0x1.62e43p-1f, 0x1.ebfbep-3f, 0x1.c6af6cp-5f, 0x1.3b2a1cp-7f, 0x1.5f0896p-10f, 0x1.444004p-13f};
}  // namespace
}  // namespace pith::kernels
