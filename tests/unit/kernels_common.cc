// Helpers of the kernel tests.
#include "kernels_common.h"

namespace kernel_test {

double from_half(uint16_t half) {
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    const double sign = half & 0x8000 ? -1.0 : 1.0;
    if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
    return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

uint16_t to_half(double value) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double size = std::fabs(value);
    if (std::isnan(value)) return 0x7E00;
    if (size >= 65520.0) return sign | 0x7C00;
    int exponent = 0;
    std::frexp(size, &exponent);  // size = f * 2^exponent, f in [0.5, 1)
    const int unit = std::max(exponent - 11, -24);
    const double steps = std::nearbyint(std::ldexp(size, -unit));  // ties to even in the default mode
    const double rounded = std::ldexp(steps, unit);
    if (rounded < std::ldexp(1.0, -14)) return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::ldexp(rounded, 24)));
    std::frexp(rounded, &exponent);
    const double mantissa = std::ldexp(rounded, 11 - exponent) - 1024;
    return static_cast<uint16_t>(sign | (exponent + 14) << 10 | static_cast<int>(mantissa));
}

namespace {

void allocate(TestMatrix& m) {
    m.matrix.tile_bytes = tile_bytes(m.matrix);
    m.data = std::make_unique<Guarded<uint8_t>>(m.matrix.tile_bytes * m.matrix.tiles());
    m.matrix.data = m.data->data();
}

}  // namespace

TestMatrix dense_matrix(Type type, uint32_t rows, uint32_t cols, Random& random) {
    TestMatrix m;
    m.matrix.type = type;
    m.matrix.rows = rows;
    m.matrix.cols = cols;
    allocate(m);
    const std::vector<float> floats = random.floats(size_t{rows} * cols);
    std::vector<uint16_t> halves;
    for (const float v : floats) {
        if (type == Type::F16) halves.push_back(to_half(v));
        if (type == Type::BF16) halves.push_back(to_bf16(v));
        m.values.push_back(type == Type::F32 ? v : type == Type::F16 ? from_half(halves.back()) : from_bf16(halves.back()));
    }
    const void* source = type == Type::F32 ? static_cast<const void*>(floats.data()) : halves.data();
    const uint32_t half = m.matrix.tiles() / 2;
    pack_dense(m.matrix, m.data->data(), source, half, m.matrix.tiles());
    pack_dense(m.matrix, m.data->data(), source, 0, half);
    return m;
}

TestMatrix q8_matrix(Type source_type, uint32_t rows, uint32_t cols, Random& random, std::vector<double>* source) {
    TestMatrix m;
    m.matrix.type = Type::Q8;
    m.matrix.rows = rows;
    m.matrix.cols = cols;
    m.matrix.group = kQ8Group;
    allocate(m);
    std::vector<float> floats = random.floats(size_t{rows} * cols);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < cols; k++) floats[size_t{r} * cols + k] *= std::ldexp(1.0f, static_cast<int>((r + k / 128) % 20) - 12);
    std::vector<uint16_t> halves;
    for (float& v : floats) {
        if (source_type == Type::F16) v = static_cast<float>(from_half(to_half(static_cast<double>(v))));
        if (source_type == Type::BF16) v = static_cast<float>(from_bf16(to_bf16(v)));
        halves.push_back(source_type == Type::F16 ? to_half(static_cast<double>(v)) : to_bf16(v));
    }
    if (source) source->assign(floats.begin(), floats.end());
    const void* from = source_type == Type::F32 ? static_cast<const void*>(floats.data()) : halves.data();
    const uint32_t half = m.matrix.tiles() / 2;
    pack_q8(m.matrix, m.data->data(), from, source_type, half, m.matrix.tiles());
    pack_q8(m.matrix, m.data->data(), from, source_type, 0, half);
    // Read back as layout.h has it.
    const uint32_t groups = m.matrix.groups();
    for (uint32_t r = 0; r < rows; r++) {
        const uint8_t* tile = m.matrix.data + r / 16 * m.matrix.tile_bytes;
        for (uint32_t k = 0; k < cols; k++) {
            float scale;
            memcpy(&scale, tile + (k / 128 * 16 + r % 16) * 4, 4);
            const int code = tile[groups * 64 + k / 4 * 64 + r % 16 * 4 + k % 4];
            m.values.push_back(static_cast<double>(scale) * (code - 128));
        }
    }
    return m;
}

TestMatrix q4_matrix(uint32_t rows, uint32_t cols, const Q4Options& options, Random& random) {
    TestMatrix m;
    Matrix& matrix = m.matrix;
    matrix.type = Type::Q4;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.group = options.group;
    matrix.asymmetric = options.asymmetric;
    matrix.wide_scales = options.scale_type != Type::F16;
    allocate(m);

    const uint32_t groups = matrix.groups();
    std::vector<uint32_t> qweight(size_t{cols} / 8 * rows), qzeros(size_t{groups} * (rows + 7) / 8);
    std::vector<uint16_t> scales16(size_t{groups} * rows);
    std::vector<float> scales32(size_t{groups} * rows);
    for (uint32_t& w : qweight) w = random.next() << 16 ^ random.next();
    for (uint32_t& w : qzeros) {
        w = options.asymmetric ? random.next() << 16 ^ random.next() : options.zero_offset ? 0x77777777 : 0x88888888;
    }
    if (options.asymmetric) qzeros[0] = 0x0F0F0F0F;  // both ends: 0 (1) and 15 (16)
    std::vector<double> scales(size_t{groups} * rows);
    for (size_t i = 0; i < scales.size(); i++) {
        scales32[i] = random.uniform() * 0.1f;
        scales16[i] = options.scale_type == Type::BF16 ? to_bf16(scales32[i]) : to_half(scales32[i]);
        scales[i] = options.scale_type == Type::F32   ? scales32[i]
                    : options.scale_type == Type::F16 ? from_half(scales16[i])
                                                      : from_bf16(scales16[i]);
    }
    if (options.perm) m.perm = random.permutation(cols);
    for (uint32_t n = 0; n < rows; n++) {
        for (uint32_t p = 0; p < cols; p++) {
            const uint32_t k = options.perm ? m.perm[p] : p;
            const size_t at = size_t{p / options.group} * rows + n;
            const int code = static_cast<int>(qweight[size_t{k / 8} * rows + n] >> (k % 8 * 4) & 15);
            const int zero = static_cast<int>((qzeros[at / 8] >> (n % 8 * 4) & 15) + options.zero_offset);
            m.values.push_back(scales[at] * (code - zero));
        }
    }
    const void* scale_data = options.scale_type == Type::F32 ? static_cast<const void*>(scales32.data()) : scales16.data();
    const GptqSource source{qweight.data(),     qzeros.data(),       scale_data,
                            options.scale_type, options.zero_offset, options.perm ? m.perm.data() : nullptr};
    const uint32_t half = matrix.tiles() / 2;
    pack_gptq(matrix, m.data->data(), source, half, matrix.tiles());
    pack_gptq(matrix, m.data->data(), source, 0, half);
    return m;
}

TestActivations activations(const Table& table, const TestMatrix& m, uint32_t tokens, Random& random) {
    TestActivations a;
    const uint32_t cols = m.matrix.cols;
    a.x = random.floats(size_t{tokens} * cols);
    a.exact.x = a.x.data();
    a.exact.x_stride = cols;
    if (m.matrix.type != Type::Q4 && m.matrix.type != Type::Q8) return a;
    const uint32_t block = activation_block(m.matrix.group);
    a.fast.q_stride = cols + 24;
    a.fast.block_stride = (cols + block - 1) / block + 1;
    a.q.resize(a.fast.q_stride * tokens);
    a.scale.resize(a.fast.block_stride * tokens);
    a.sum.resize(a.fast.block_stride * tokens);
    for (uint32_t t = 0; t < tokens; t++) {
        table.quantise(a.x.data() + size_t{t} * cols, cols, block, nullptr, 1, a.q.data() + t * a.fast.q_stride,
                       a.scale.data() + t * a.fast.block_stride, a.sum.data() + t * a.fast.block_stride);
    }
    const size_t lanes = table.lanes, whole = (tokens + lanes - 1) / lanes * lanes;
    a.wide = a.fast;
    a.wide.lanes = table.lanes;
    a.wide_q.resize(a.wide.q_stride * whole);
    a.wide_scale.resize(a.wide.block_stride * whole);
    a.wide_sum.resize(a.wide.block_stride * whole);
    for (size_t t = 0; t < tokens; t++) {
        const size_t group = t / lanes * lanes, lane = t % lanes;
        table.quantise(a.x.data() + t * cols, cols, block, nullptr, table.lanes, a.wide_q.data() + group * a.wide.q_stride + lane * 8,
                       a.wide_scale.data() + group * a.wide.block_stride + lane, a.wide_sum.data() + group * a.wide.block_stride + lane);
    }
    a.wide.q = a.wide_q.data();
    a.wide.scale = a.wide_scale.data();
    a.wide.sum = a.wide_sum.data();
    a.fast.q = a.q.data();
    a.fast.scale = a.scale.data();
    a.fast.sum = a.sum.data();
    return a;
}

}  // namespace kernel_test
