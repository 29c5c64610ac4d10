// How fast a decoded token is, on synthetic models, beside a pure read of more
// than a gigabyte in the same run.
#pragma once

__global__ void fill_words(uint32_t* p, size_t n, uint32_t seed) {
    for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x) {
        uint32_t h = static_cast<uint32_t>(i) * 2654435761u + seed;
        h ^= h >> 15, h *= 2246822519u, h ^= h >> 13;
        p[i] = h;
    }
}
__global__ void fill_value(uint32_t* p, size_t n, uint32_t v) {
    for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x) p[i] = v;
}
__global__ void __launch_bounds__(512) read_all(const uint4* p, size_t n, uint32_t* out) {
    uint4 sum = {0, 0, 0, 0};
    const size_t per_block = n / gridDim.x;
    const uint4* from = p + per_block * blockIdx.x;
    for (size_t i = threadIdx.x; i + 7 * blockDim.x < per_block; i += 8 * blockDim.x) {
        uint4 v[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(v[j].x), "=r"(v[j].y), "=r"(v[j].z), "=r"(v[j].w)
                         : "l"(from + i + j * blockDim.x));
#pragma unroll
        for (int j = 0; j < 8; j++) sum.x ^= v[j].x, sum.y ^= v[j].y, sum.z ^= v[j].z, sum.w ^= v[j].w;
    }
    if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x12345678) *out = 1;
}

static void* device_words(size_t bytes, uint32_t seed, bool constant = false) {
    void* p = nullptr;
    CHECK(cudaMalloc(&p, (bytes + 1023) / 1024 * 1024));
    allocations.push_back(p);
    if (constant) {
        fill_value<<<1024, 256>>>(static_cast<uint32_t*>(p), bytes / 4, seed);
    } else {
        fill_words<<<1024, 256>>>(static_cast<uint32_t*>(p), bytes / 4, seed);
    }
    return p;
}

template <typename F>
static double median_us(int runs, F&& f) {
    cudaEvent_t a, b;
    CHECK(cudaEventCreate(&a));
    CHECK(cudaEventCreate(&b));
    std::vector<float> times;
    for (int i = 0; i < runs; i++) {
        CHECK(cudaEventRecord(a));
        f();
        CHECK(cudaEventRecord(b));
        CHECK(cudaEventSynchronize(b));
        float ms;
        CHECK(cudaEventElapsedTime(&ms, a, b));
        if (i > 1) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    CHECK(cudaEventDestroy(a));
    CHECK(cudaEventDestroy(b));
    return times[times.size() / 2] * 1e3;
}

static double read_bandwidth() {  // GB/s
    const size_t bytes = size_t{3} << 30;
    uint4* p = static_cast<uint4*>(device_words(bytes, 1));
    uint32_t* out = static_cast<uint32_t*>(device_words(1024, 0, true));
    double best = 0;
    for (uint32_t blocks : {1u, 2u, 4u, 8u, 32u}) {
        const double us = median_us(9, [&] { read_all<<<device_sms * blocks, 512>>>(p, bytes / 16, out); });
        best = std::max(best, bytes / us * 1e-3);
    }
    release();
    return best;
}

#ifdef PITH_TRACE
static constexpr uint32_t kSpare = 64;
#else
static constexpr uint32_t kSpare = 0;
#endif

struct TimedShape {
    const char* name;
    uint32_t hidden, heads, kv_heads, head_dim, intermediate, vocab, layers, group;
    bool tied, bias, asymmetric, act_order;
};

struct TimedModel {
    DecodeParams p{};
    std::vector<DecodeLayer> layers;
    uint32_t* at;
    double layer_bytes, head_bytes;
};

static DecodeJob timed_matrix(uint32_t tiles, uint32_t cols, const TimedShape& s, bool dense_kind, bool bias, double* bytes) {
    Matrix m{};
    m.type = dense_kind ? WeightType::F16 : WeightType::Q4;
    m.rows = tiles * 16, m.cols = cols, m.tiles = tiles, m.chunks = (cols + 63) / 64;
    const uint32_t* inverse = nullptr;
    if (dense_kind) {
        const size_t n = size_t{tiles} * m.chunks * kF16ChunkBytes;
        m.data = static_cast<uint8_t*>(device_words(n, 0x14001c00, true));
        *bytes += n;
    } else {
        m.group = s.group, m.groups = (cols + s.group - 1) / s.group;
        const size_t n = size_t{tiles} * m.chunks * kQ4ChunkBytes, scales = size_t{tiles} * m.groups * 32,
                     zeros = size_t{tiles} * ((m.groups + 3) / 4) * 32;
        m.data = static_cast<uint8_t*>(device_words(n, rng()));
        m.scales = static_cast<uint32_t*>(device_words(scales, 0x14001400, true));
        *bytes += n + scales;
        if (s.asymmetric) {
            m.zeros = static_cast<uint32_t*>(device_words(zeros, 0x88888888, true));
            *bytes += zeros;
        }
        if (s.act_order) {
            std::vector<uint32_t> order(cols);
            for (uint32_t i = 0; i < cols; i++) order[i] = i;
            std::shuffle(order.begin(), order.end(), rng);
            inverse = upload(order);
        }
    }
    if (bias) m.bias = static_cast<float*>(device_words(size_t{tiles} * 64, 0, true));
    return make_decode_job(m, inverse);
}

static std::unique_ptr<TimedModel> timed_model(const TimedShape& s) {
    auto model = std::make_unique<TimedModel>();
    TimedModel& m = *model;
    const uint32_t d = s.head_dim, q = (s.heads * d + 15) / 16, kv = (s.kv_heads * d + 15) / 16, x = (s.hidden + 15) / 16;
    const uint32_t positions = 2048;
    auto ones = [&](uint32_t n) { return static_cast<float*>(device_words(size_t{n} * 4, 0x3f800000, true)); };
    for (uint32_t l = 0; l < s.layers; l++) {
        DecodeLayer g{};
        double bytes = 0;
        g.jobs[0] = timed_matrix(q + 2 * kv, s.hidden, s, false, s.bias, &bytes);
        g.k_row = q * 16, g.v_row = (q + kv) * 16;
        g.jobs[kJobO] = timed_matrix(x, s.heads * d, s, false, false, &bytes);
        g.jobs[kJobGateUp] = timed_matrix((s.intermediate + 7) / 8, s.hidden, s, false, false, &bytes);
        g.jobs[kJobDown] = timed_matrix(x, s.intermediate, s, false, false, &bytes);
        m.layer_bytes = bytes;
        g.attention_norm = ones(s.hidden), g.mlp_norm = ones(s.hidden);
        g.keys = static_cast<uint16_t*>(device_words(size_t{s.kv_heads} * positions * d * 2, 0x2c002800, true));
        g.values = static_cast<uint16_t*>(device_words(size_t{s.kv_heads} * positions * d * 2, 0x2c002800, true));
        m.layers.push_back(g);
    }
    DecodeParams& p = m.p;
    m.head_bytes = 0;
    p.head = timed_matrix((s.vocab + 15) / 16, s.hidden, s, true, false, &m.head_bytes);
    p.layers = upload(m.layers);
    p.layer_count = s.layers;
    p.final_norm = ones(s.hidden);
    p.embedding = static_cast<uint16_t*>(device_words(size_t{s.hidden} * 2 * 64, 0x2c002800, true));
    m.at = upload(std::vector<uint32_t>(2));
    p.token = m.at, p.position = m.at + 1;
    std::vector<double> f;
    for (uint32_t i = 0; i < d / 2; i++) f.push_back(std::pow(10000.0, -2.0 * i / d));
    p.inverse_frequencies = upload(f);
    p.logits = ones(s.vocab);
    p.hidden = s.hidden, p.intermediate = s.intermediate, p.heads = s.heads, p.kv_heads = s.kv_heads, p.head_dim = d, p.vocab = s.vocab;
    p.kv_positions = positions;
    p.rms_eps = 1e-5f, p.rope_scale = 1, p.attention_scale = 1.0f / std::sqrt(static_cast<float>(d));
    return model;
}

static double timed_us(TimedModel& m, DecodeParams p, uint32_t layers, uint32_t position) {
    const uint32_t at[2] = {3, position};
    CHECK(cudaMemcpy(m.at, at, 8, cudaMemcpyHostToDevice));
    p.layer_count = layers;
    return median_us(layers > 1 ? 17 : 33, [&] { launch(p); });
}

#ifdef PITH_TRACE
// Mean microseconds between the marks of a layer, over blocks and layers.
static void print_trace(uint32_t layers, uint32_t blocks) {
    static const char* const names[] = {"wait", "norm", "qkv", "attend", "copy", "o", "wait", "norm", "gate", "copy", "down"};
    constexpr uint32_t kMarks = 11, kFirst = 0;
    std::vector<long long> t(256 * 2048);
    CHECK(cudaMemcpyFromSymbol(t.data(), pith_trace, t.size() * 8));
    int khz = 0;
    CHECK(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0));
    std::printf("trace:");
    for (uint32_t m = 0; m < kMarks; m++) {
        double sum = 0, n = 0, least = 1e9, most = 0;
        for (uint32_t b = 0; b < blocks; b++)
            for (uint32_t l = 4; l + 1 < layers && kFirst + l * kMarks + m < 2048; l++)
                sum += t[b * 2048 + kFirst + l * kMarks + m] - t[b * 2048 + kFirst + l * kMarks + m - 1], n++,
                    least = std::min(least, double(t[b * 2048 + kFirst + l * kMarks + m] - t[b * 2048 + kFirst + l * kMarks + m - 1])),
                    most = std::max(most, double(t[b * 2048 + kFirst + l * kMarks + m] - t[b * 2048 + kFirst + l * kMarks + m - 1]));
        std::printf(" %s %.2f [%.1f %.1f]", names[m], sum / n / khz * 1e3, least / khz * 1e3, most / khz * 1e3);
    }
    std::printf("\n");
}
#endif

static int time_models(int argc, char** argv) {
    const TimedShape shapes[] = {
        {"33b", 6656, 52, 52, 128, 17920, 32000, 61, 128, false, false, false, false},
        {"7b", 4096, 32, 32, 128, 11008, 32000, 33, 128, false, false, false, false},
        {"8b", 4096, 32, 8, 128, 14336, 128256, 33, 128, false, false, false, false},
        {"0.5b", 896, 14, 2, 64, 4864, 151936, 25, 128, true, true, false, false},
        {"33b-act", 6656, 52, 52, 128, 17920, 32000, 31, 128, false, false, false, true},
        {"33b-g32a", 6656, 52, 52, 128, 17920, 32000, 31, 32, false, false, true, false},
        {"72b", 8192, 64, 8, 128, 29568, 152064, 31, 128, false, true, false, false},
    };
    const double peak = read_bandwidth();
    std::printf(
        "pure read %.0f GB/s\nmodel      pos variant        thr slots  "
        "us/token  GB/s ratio  us/layer fixed/layer\n",
        peak);
    for (const TimedShape& s : shapes) {
        bool wanted = argc == 0;
        for (int i = 0; i < argc; i++) wanted |= !std::strcmp(argv[i], s.name);
        if (!wanted) continue;
        auto m = timed_model(s);
        CHECK(cudaDeviceSynchronize());
        const Variant variants[] = {
            {"normal", 0, 0, 8}, {"normal", 0, 0, 12}, {"normal", 0, 0, 15}, {"99 KB", 0, 99 * 1024, 15}, {"small", 0, 48 * 1024, 15}};
        for (const Variant& v : variants) {
            if (!decode_plan(&m->p, m->layers.data(), device_sms, v.shared ? v.shared : device_shared - kSpare, v.warps)) continue;
            if (std::getenv("ONLY") && std::strcmp(std::getenv("ONLY"), v.name)) continue;
            if (std::getenv("WARPS") && std::atoi(std::getenv("WARPS")) != static_cast<int>(v.warps)) continue;
            m->p.workspace = static_cast<uint8_t*>(device_words(m->p.workspace_bytes, 0, true));
            for (uint32_t position : {0u, 1920u}) {
                const double many = timed_us(*m, m->p, s.layers, position), one = timed_us(*m, m->p, 1, position);
                const double kv = 4.0 * position * s.kv_heads * s.head_dim, layer = m->layer_bytes + kv,
                             bytes = layer * s.layers + m->head_bytes;
                const double per = (many - one) / (s.layers - 1);
                std::printf("%-9s %4u %-13s %4u %4u %10.1f %6.0f %5.3f %8.2f %7.2f\n", s.name, position, v.name, m->p.warps, m->p.stages,
                            many, bytes / many * 1e-3, bytes / many * 1e-3 / peak, per, per - layer / peak * 1e-3);
#ifdef PITH_TRACE
                timed_us(*m, m->p, s.layers, position);
                print_trace(s.layers, m->p.grid);
#endif
            }
        }
        release();
    }
    return 0;
}
