// Random models for the decode test: their matrices packed for the device, and
// their float64 evaluation on the host.
#pragma once

// ---- random models
// -----------------------------------------------------------------------------------------------------------------------

struct Kind {  // of a matrix
    bool dense = false, asymmetric = false, act_order = false, bias = false, row_scale = false;
    uint32_t group = 128;  // 0: the whole row
    uint32_t zero_offset = 0;
};

struct Part {  // a matrix on the host
    uint32_t rows, cols, group, groups;
    Kind kind;
    std::vector<uint8_t> codes,
        zero;  // stored order; zero [rows][groups], without the offset
    std::vector<float> scale, bias, row_scale, dense;
    std::vector<uint32_t> perm;
    std::vector<double> w;  // as multiplied: [rows][cols]
};

static std::vector<uint32_t> random_order(uint32_t n) {
    std::vector<uint32_t> p(n);
    for (uint32_t i = 0; i < n; i++) p[i] = i;
    std::shuffle(p.begin(), p.end(), rng);
    return p;
}

static Part make_part(uint32_t rows, uint32_t cols, const Kind& kind, const std::vector<uint32_t>& perm) {
    Part m{};
    m.rows = rows, m.cols = cols, m.kind = kind, m.perm = perm;
    m.group = kind.group ? kind.group : (cols + 31) / 32 * 32;
    m.groups = (cols + m.group - 1) / m.group;
    m.w.assign(size_t{rows} * cols, 0);
    const float size = 1.0f / std::sqrt(static_cast<float>(cols));
    for (uint32_t r = 0; r < rows; r++) {
        m.row_scale.push_back(kind.row_scale ? (r % 3 == 0 ? 0.5f : r % 3 == 1 ? 1.0f : 2.0f) : 1.0f);
        m.bias.push_back(kind.bias ? uniform(-0.5f, 0.5f) : 0.0f);
    }
    if (kind.dense) {
        for (size_t i = 0; i < size_t{rows} * cols; i++) m.dense.push_back(rounded(uniform(-1.7f, 1.7f) * size));
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < cols; c++)
                m.w[size_t{r} * cols + perm[c]] = static_cast<double>(m.dense[size_t{r} * cols + c]) * m.row_scale[r];
        return m;
    }
    for (size_t i = 0; i < size_t{rows} * cols; i++) m.codes.push_back(rng() % 16);
    for (size_t i = 0; i < size_t{rows} * m.groups; i++) {
        m.scale.push_back(rounded(uniform(0.1f, 0.3f) * size));
        m.zero.push_back(kind.asymmetric ? (cols < 200 ? 15 - rng() % 4 : 4 + rng() % 8) : 8);
    }
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++) {
            const size_t g = size_t{r} * m.groups + c / m.group;
            const int zero = m.zero[g] + (kind.asymmetric ? static_cast<int>(kind.zero_offset) : 0);
            m.w[size_t{r} * cols + perm[c]] = static_cast<double>(m.codes[size_t{r} * cols + c] - zero) * m.scale[g] * m.row_scale[r];
        }
    return m;
}

// Packs parts, stacked or (two) interleaved, as layout.h says.
static DecodeJob pack(const std::vector<const Part*>& parts, bool interleaved) {
    const Part& a = *parts[0];
    std::vector<std::pair<const Part*, uint32_t>> rows;  // of the packed matrix; NULL: padding
    if (interleaved) {
        for (uint32_t i = 0; i < (a.rows + 7) / 8; i++)
            for (uint32_t s = 0; s < 2; s++)
                for (uint32_t r = 0; r < 8; r++) rows.push_back({8 * i + r < a.rows ? parts[s] : nullptr, 8 * i + r});
    } else {
        for (const Part* p : parts)
            for (uint32_t r = 0; r < (p->rows + 15) / 16 * 16; r++) rows.push_back({r < p->rows ? p : nullptr, r});
    }
    Matrix m{};
    m.type = a.kind.dense ? WeightType::F16 : WeightType::Q4;
    m.rows = static_cast<uint32_t>(rows.size()), m.cols = a.cols, m.tiles = m.rows / 16, m.chunks = (a.cols + 63) / 64;
    const uint32_t cols = m.chunks * 64;
    auto column = [](uint32_t j, uint32_t t, uint32_t i) { return 16 * j + 2 * t + (i / 2) * 8; };  // of a_i's first
    if (a.kind.dense) {
        std::vector<uint16_t> out(size_t{m.rows} * cols, 0);
        for (uint32_t tile = 0; tile < m.tiles; tile++)
            for (uint32_t c = 0; c < m.chunks; c++)
                for (uint32_t j = 0; j < 4; j++)
                    for (uint32_t lane = 0; lane < 32; lane++)
                        for (uint32_t i = 0; i < 8; i++) {
                            const auto [part, r] = rows[tile * 16 + lane / 4 + (i / 2 % 2) * 8];
                            const uint32_t col = c * 64 + column(j, lane % 4, i / 2) + i % 2;
                            const float v = part && col < a.cols ? part->dense[size_t{r} * a.cols + col] : 0;
                            out[(((size_t{tile} * m.chunks + c) * 4 + j) * 32 + lane) * 8 + (i / 2 % 2 + i / 4 * 2) * 2 + i % 2] = bits(v);
                        }
        m.data = reinterpret_cast<const uint8_t*>(upload(out));
    } else {
        m.group = a.group, m.groups = a.groups, m.zero_offset = a.kind.asymmetric ? a.kind.zero_offset : 0;
        std::vector<uint32_t> out(size_t{m.tiles} * m.chunks * 128, 0), scales(size_t{m.tiles} * m.groups * 8, 0);
        const uint32_t words = (m.groups + 3) / 4;
        std::vector<uint32_t> zeros(size_t{m.tiles} * words * 8, 0);
        for (uint32_t tile = 0; tile < m.tiles; tile++) {
            for (uint32_t c = 0; c < m.chunks; c++)
                for (uint32_t lane = 0; lane < 32; lane++)
                    for (uint32_t j = 0; j < 4; j++) {
                        uint32_t word = 0;
                        for (uint32_t n = 0; n < 8; n++) {
                            const uint32_t i = n % 4, col = c * 64 + column(j, lane % 4, i) + n / 4;
                            const auto [part, r] = rows[tile * 16 + lane / 4 + i % 2 * 8];
                            word |= (part && col < a.cols ? part->codes[size_t{r} * a.cols + col] : 8u) << (4 * n);
                        }
                        out[((size_t{tile} * m.chunks + c) * 32 + lane) * 4 + j] = word;
                    }
            for (uint32_t g = 0; g < m.groups; g++)
                for (uint32_t r = 0; r < 16; r++) {
                    const auto [part, row] = rows[tile * 16 + r];
                    if (!part) continue;
                    scales[(size_t{tile} * m.groups + g) * 8 + r % 8] |=
                        static_cast<uint32_t>(bits(part->scale[size_t{row} * m.groups + g])) << (r / 8 * 16);
                    zeros[(size_t{tile} * words + g / 4) * 8 + r % 8] |= static_cast<uint32_t>(part->zero[size_t{row} * m.groups + g])
                                                                         << (g % 4 * 8 + r / 8 * 4);
                }
        }
        m.data = reinterpret_cast<const uint8_t*>(upload(out));
        m.scales = upload(scales);
        if (a.kind.asymmetric) m.zeros = upload(zeros);
    }
    bool has_bias = false, has_scale = false;
    std::vector<float> bias, scale;
    for (const auto& [part, r] : rows) {
        bias.push_back(part ? part->bias[r] : 0);
        scale.push_back(part ? part->row_scale[r] : 1);
        has_bias |= part && part->kind.bias;
        has_scale |= part && part->kind.row_scale;
    }
    if (has_bias) m.bias = upload(bias);
    if (has_scale) m.row_scale = upload(scale);
    const uint32_t* inverse = nullptr;
    if (a.kind.act_order) {
        std::vector<uint32_t> v(a.cols);
        for (uint32_t i = 0; i < a.cols; i++) v[a.perm[i]] = i;
        inverse = upload(v);
    }
    return make_decode_job(m, inverse);
}

struct Shape {
    const char* name;
    uint32_t hidden, heads, kv_heads, head_dim, intermediate, vocab, layers, window;
    Kind qkv, o, gate_up, down, head;
    uint32_t first;      // positions that are in the cache before
    uint32_t whole;      // whole_head_units
    uint32_t qkv_split;  // 0: one matrix; 1: q, k, v apart; 2: q with k, v apart
    bool gate_apart, embedding_scale;
    uint32_t steps;
};

struct HostLayer {
    Part q, k, v, o, gate, up, down;
    std::vector<float> norm1, norm2;
    std::vector<double> keys, values;  // [kv_head][positions][head_dim]
};

struct Model {
    Shape s;
    std::vector<HostLayer> layers;
    Part head;
    std::vector<float> embedding, embedding_scale, final_norm;
    std::vector<double> inverse_frequencies;
    uint32_t positions;
    DecodeParams p{};
    std::vector<DecodeLayer> device_layers;
    uint32_t* at = nullptr;  // token, position
};

static std::vector<uint32_t> order_for(uint32_t cols, const Kind& k) {
    if (k.act_order) return random_order(cols);
    std::vector<uint32_t> p(cols);
    for (uint32_t i = 0; i < cols; i++) p[i] = i;
    return p;
}

static std::unique_ptr<Model> make_model(const Shape& s) {
    auto model = std::make_unique<Model>();
    Model& m = *model;
    m.s = s;
    m.positions = (s.first + s.steps + kKvBlock - 1) / kKvBlock * kKvBlock;
    const uint32_t d = s.head_dim, q = s.heads * d, kv = s.kv_heads * d;
    auto norm = [&] {
        std::vector<float> v;
        for (uint32_t i = 0; i < s.hidden; i++) v.push_back(uniform(0.5f, 1.5f));
        return v;
    };
    for (uint32_t l = 0; l < s.layers; l++) {
        HostLayer h;
        const auto order = order_for(s.hidden, s.qkv), order2 = order_for(s.hidden, s.gate_up);
        h.q = make_part(q, s.hidden, s.qkv, order);
        h.k = make_part(kv, s.hidden, s.qkv, s.qkv_split == 1 ? order_for(s.hidden, s.qkv) : order);
        h.v = make_part(kv, s.hidden, s.qkv, s.qkv_split ? order_for(s.hidden, s.qkv) : order);
        h.o = make_part(s.hidden, q, s.o, order_for(q, s.o));
        h.gate = make_part(s.intermediate, s.hidden, s.gate_up, order2);
        h.up = make_part(s.intermediate, s.hidden, s.gate_up, s.gate_apart ? order_for(s.hidden, s.gate_up) : order2);
        h.down = make_part(s.hidden, s.intermediate, s.down, order_for(s.intermediate, s.down));
        h.norm1 = norm(), h.norm2 = norm();
        DecodeLayer g{};
        std::vector<uint16_t> k16(size_t{kv} * m.positions, 0), v16 = k16;
        h.keys.assign(k16.size(), 0), h.values.assign(k16.size(), 0);
        for (uint32_t n = 0; n < s.kv_heads; n++)
            for (uint32_t i = 0; i < s.first * d; i++) {
                const size_t at = size_t{n} * m.positions * d + i;
                h.keys[at] = rounded(uniform(-2, 2)), h.values[at] = rounded(uniform(-2, 2));
                k16[at] = bits(static_cast<float>(h.keys[at])), v16[at] = bits(static_cast<float>(h.values[at]));
            }
        g.keys = upload(k16), g.values = upload(v16);
        const uint32_t tq = (q + 15) / 16 * 16, tk = (kv + 15) / 16 * 16;
        if (s.qkv_split == 0) {
            g.jobs[0] = pack({&h.q, &h.k, &h.v}, false);
            g.k_row = tq, g.v_row = tq + tk;
        } else if (s.qkv_split == 1) {
            g.jobs[0] = pack({&h.q}, false), g.jobs[1] = pack({&h.k}, false), g.jobs[2] = pack({&h.v}, false);
            g.k_job = 1, g.v_job = 2;
        } else {
            g.jobs[0] = pack({&h.q, &h.k}, false), g.jobs[1] = pack({&h.v}, false);
            g.k_row = tq, g.v_job = 1;
        }
        g.jobs[kJobO] = pack({&h.o}, false);
        if (s.gate_apart) {
            g.jobs[kJobGateUp] = pack({&h.gate}, false), g.jobs[kJobGateUp + 1] = pack({&h.up}, false);
        } else {
            g.jobs[kJobGateUp] = pack({&h.gate, &h.up}, true);
        }
        g.gate_apart = s.gate_apart;
        g.jobs[kJobDown] = pack({&h.down}, false);
        g.attention_norm = upload(h.norm1), g.mlp_norm = upload(h.norm2);
        g.window = l % 2 == 0 ? s.window : 0;
        m.device_layers.push_back(g);
        m.layers.push_back(std::move(h));
    }
    m.head = make_part(s.vocab, s.hidden, s.head, order_for(s.hidden, s.head));
    m.final_norm = norm();
    std::vector<uint16_t> rows;
    for (size_t i = 0; i < size_t{s.vocab} * s.hidden; i++)
        m.embedding.push_back(rounded(uniform(-1, 1))), rows.push_back(bits(m.embedding.back()));
    for (uint32_t i = 0; i < s.vocab; i++) m.embedding_scale.push_back(s.embedding_scale ? (i % 2 ? 2.0f : 0.5f) : 1.0f);
    for (uint32_t i = 0; i < d / 2; i++) m.inverse_frequencies.push_back(std::pow(10000.0, -2.0 * i / d));
    DecodeParams& p = m.p;
    p.layers = upload(m.device_layers);
    p.layer_count = s.layers;
    p.final_norm = upload(m.final_norm);
    p.embedding = upload(rows);
    p.embedding_scale = s.embedding_scale ? upload(m.embedding_scale) : nullptr;
    m.at = upload(std::vector<uint32_t>(2));
    p.token = m.at, p.position = m.at + 1;
    p.inverse_frequencies = upload(m.inverse_frequencies);
    p.logits = upload(std::vector<float>(s.vocab));
    p.head = pack({&m.head}, false);
    p.hidden = s.hidden, p.intermediate = s.intermediate, p.heads = s.heads, p.kv_heads = s.kv_heads, p.head_dim = d, p.vocab = s.vocab;
    p.kv_positions = m.positions;
    p.rms_eps = 1e-5f, p.rope_scale = 1.1f, p.attention_scale = 1.0f / std::sqrt(static_cast<float>(d));
    p.whole_head_units = s.whole;
    return model;
}

// ---- the reference
// -----------------------------------------------------------------------------------------------------------------------

using Vector = std::vector<double>;

static Vector times(const Part& m, const Vector& x) {
    Vector y(m.rows);
    for (uint32_t r = 0; r < m.rows; r++) {
        double sum = 0;
        const double* w = m.w.data() + size_t{r} * m.cols;
        for (uint32_t c = 0; c < m.cols; c++) sum += w[c] * x[c];
        y[r] = sum + m.bias[r];
    }
    return y;
}
static Vector rms(const Vector& x, const std::vector<float>& w, double eps) {
    double s = 0;
    for (double v : x) s += v * v;
    const double f = 1 / std::sqrt(s / static_cast<double>(x.size()) + eps);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); i++) y[i] = x[i] * f * w[i];
    return y;
}

static Vector reference(Model& m, uint32_t token, uint32_t position) {
    const Shape& s = m.s;
    const uint32_t d = s.head_dim, half_dim = d / 2;
    Vector x(s.hidden);
    for (uint32_t i = 0; i < s.hidden; i++) x[i] = m.embedding[size_t{token} * s.hidden + i] * m.embedding_scale[token];
    for (uint32_t l = 0; l < s.layers; l++) {
        HostLayer& h = m.layers[l];
        const Vector n = rms(x, h.norm1, m.p.rms_eps);
        Vector q = times(h.q, n), k = times(h.k, n), v = times(h.v, n);
        auto rotate = [&](Vector& a, uint32_t heads) {
            for (uint32_t j = 0; j < heads; j++)
                for (uint32_t i = 0; i < half_dim; i++) {
                    const double angle = static_cast<double>(position) * m.inverse_frequencies[i], c = std::cos(angle) * m.p.rope_scale,
                                 w = std::sin(angle) * m.p.rope_scale;
                    double &lo = a[j * d + i], &hi = a[j * d + half_dim + i];
                    const double a0 = lo, a1 = hi;
                    lo = a0 * c - a1 * w, hi = a1 * c + a0 * w;
                }
        };
        rotate(q, s.heads), rotate(k, s.kv_heads);
        for (uint32_t j = 0; j < s.kv_heads; j++)
            for (uint32_t i = 0; i < d; i++) {
                const size_t at = (size_t{j} * m.positions + position) * d + i;
                h.keys[at] = k[j * d + i], h.values[at] = v[j * d + i];
            }
        const uint32_t window = l % 2 == 0 ? s.window : 0, from = window && position + 1 > window ? position + 1 - window : 0;
        Vector out(s.heads * d, 0);
        for (uint32_t j = 0; j < s.heads; j++) {
            const size_t base = size_t{j / (s.heads / s.kv_heads)} * m.positions * d;
            Vector score;
            double largest = -1e300, sum = 0;
            for (uint32_t t = from; t <= position; t++) {
                double dot = 0;
                for (uint32_t i = 0; i < d; i++) dot += q[j * d + i] * h.keys[base + size_t{t} * d + i];
                score.push_back(dot * m.p.attention_scale);
                largest = std::max(largest, score.back());
            }
            for (double& v2 : score) sum += v2 = std::exp(v2 - largest);
            for (uint32_t t = from; t <= position; t++)
                for (uint32_t i = 0; i < d; i++) out[j * d + i] += score[t - from] / sum * h.values[base + size_t{t} * d + i];
        }
        const Vector o = times(h.o, out);
        for (uint32_t i = 0; i < s.hidden; i++) x[i] += o[i];
        const Vector n2 = rms(x, h.norm2, m.p.rms_eps);
        Vector g = times(h.gate, n2);
        const Vector u = times(h.up, n2);
        for (uint32_t i = 0; i < s.intermediate; i++) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
        const Vector y = times(h.down, g);
        for (uint32_t i = 0; i < s.hidden; i++) x[i] += y[i];
    }
    return times(m.head, rms(x, m.final_norm, m.p.rms_eps));
}
