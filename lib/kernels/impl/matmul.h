// Matrix times tokens, for any tier: include after the tier's vec.h. Rows stay in lanes, so there are no horizontal sums; what differs
// between calls is only how many tiles and tokens go through registers together, never the order of one element's operations.
#pragma once
#include "kernels/impl/elementwise.h"

namespace pith::kernels {
namespace {

// What a register block reads and writes.
struct Job {
    const Matrix& w;
    const Activations& x;
    float* y;
    size_t y_stride;
    Q4Layout q4;     // of Q8 only where the codes begin
    uint32_t block;  // Q4 fast path: columns of an activation block
    uint32_t step;   // from tile to tile of a register block

    const uint8_t* tile(uint32_t t) const { return w.data + t * w.tile_bytes; }
    void store(uint32_t token, uint32_t t, Vec v) const {
        const uint32_t row = t * kTileRows;
        float* to = y + token * y_stride + row;
        if (w.rows - row >= kTileRows) {
            pith::kernels::store(to, v);
        } else {
            store_n(to, v, w.rows - row);
        }
    }
};

template <int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void clear(Vec (&sum)[kTiles][kTokens]) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { sum[i][t] = zero(); }); });
}
template <int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void store_all(const Job& job, uint32_t token, uint32_t tile, const Vec (&sum)[kTiles][kTokens]) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { job.store(token + t, tile + i * job.step, sum[i][t]); });
    });
}

template <Type kType>
struct Dense {
    template <int kTiles, int kTokens>
    static void run(const Job& job, uint32_t token, uint32_t tile) {
        constexpr size_t kStep = kTileRows * (kType == Type::F32 ? 4 : 2);
        const uint8_t* w[kTiles];
        const float* x[kTokens];
        Vec sum[kTiles][kTokens];
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { w[i] = job.tile(tile + i * job.step); });
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { x[t] = job.x.x + (token + t) * job.x.x_stride; });
        clear(sum);
        for (size_t k = 0; k < job.w.cols; k++) {
            Vec weights[kTiles];
            unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { weights[i] = load_element<kType>(w[i] + k * kStep); });
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                const Vec value = set1(x[t][k]);
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { sum[i][t] = fma(weights[i], value, sum[i][t]); });
            });
        }
        store_all(job, token, tile, sum);
    }
};

inline Vec q4_scales(const Job& job, const uint8_t* tile, uint32_t group) {
    const uint8_t* at = tile + group * kTileRows * job.q4.scale_size;
    return job.w.wide_scales || job.w.type == Type::Q8 ? load(reinterpret_cast<const float*>(at)) : load(reinterpret_cast<const uint16_t*>(at));
}
inline Ints q4_zeros(const Job& job, const uint8_t* tile, uint32_t group) {
    return job.w.asymmetric ? load_bytes(tile + job.q4.zeros + group * kTileRows) : set1_int(8);
}

// sum += part * scale of the group
template <int kTiles, int kTokens>
PITH_KERNEL_INLINE inline void add_scaled(const Job& job, uint32_t tile, uint32_t group, const Vec (&part)[kTiles][kTokens],
                                          Vec (&sum)[kTiles][kTokens]) {
    unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
        const Vec scale = q4_scales(job, job.tile(tile + i * job.step), group);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { sum[i][t] = fma(part[i][t], scale, sum[i][t]); });
    });
}

// Scales and zero points of a few tokens' tiles: else the hardware takes what the codes skip for the end of its streams.
template <int kTiles>
PITH_KERNEL_INLINE inline void prefetch_heads(const Job& job, uint32_t tile) {
    for (int i = 0; i < kTiles; i++) prefetch(job.tile(tile + i * job.step), job.q4.codes);
}

// A code less kZero as float: as the tier has it, or in steps. Exact either way.
template <int kShift, int kZero, class T = Tune>
PITH_KERNEL_INLINE inline Vec code_float(Ints codes) {
    if constexpr (requires { T::template code_float<kShift, kZero>(codes); })
        return T::template code_float<kShift, kZero>(codes);
    else if constexpr (kZero != 0)
        return sub(to_float(nibble<kShift>(codes)), set1(kZero));
    else
        return to_float(nibble<kShift>(codes));
}

// Float activations: scale * sum of (q - z) * x, a group at a time.
struct Q4Exact {
    template <int kTiles, int kTokens>
    static void run(const Job& job, uint32_t token, uint32_t tile) {
        const float* x[kTokens];
        Vec sum[kTiles][kTokens];
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { x[t] = job.x.x + (token + t) * job.x.x_stride; });
        clear(sum);
        if constexpr (kTokens <= 4) prefetch_heads<kTiles>(job, tile);
        for (uint32_t group = 0, column = 0; column < job.w.cols; group++) {
            const uint32_t end = smaller(column + job.w.group, job.w.cols);
            Vec part[kTiles][kTokens];
            Vec zeros[kTiles];
            clear(part);
            unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { zeros[i] = to_float(q4_zeros(job, job.tile(tile + i * job.step), group)); });
            for (; column < end; column += 8) {
                Ints codes[kTiles];
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
                    codes[i] = load_ints(job.tile(tile + i * job.step) + job.q4.codes + size_t{column} * 8);
                });
                job.w.asymmetric ? octet<0, true>(codes, zeros, x, column, part) : octet<0, false>(codes, zeros, x, column, part);
            }
            add_scaled(job, tile, group, part, sum);
        }
        store_all(job, token, tile, sum);
    }

private:
    template <int kColumn, bool kAsymmetric, int kTiles, int kTokens>
    PITH_KERNEL_INLINE static void octet(const Ints (&codes)[kTiles], const Vec (&zeros)[kTiles], const float* const (&x)[kTokens],
                                         uint32_t column, Vec (&part)[kTiles][kTokens]) {
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            constexpr int kShift = 8 * (kColumn & 3) + (kColumn & 4);
            const Vec weight = kAsymmetric ? sub(code_float<kShift, 0>(codes[i]), zeros[i]) : code_float<kShift, 8>(codes[i]);
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { part[i][t] = fma(weight, set1(x[t][column + kColumn]), part[i][t]); });
        });
        if constexpr (kColumn < 7) octet<kColumn + 1, kAsymmetric>(codes, zeros, x, column, part);
    }
};

// int8 activations: scale * sum over blocks of (the block's scale * the exact integer sum of (q - z) * x).
struct Q4Fast {
    template <int kTiles, int kTokens>
    static void run(const Job& job, uint32_t token, uint32_t tile) {
        const uint8_t* codes[kTiles];
        const int8_t* q[kTokens];
        Vec sum[kTiles][kTokens];
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { codes[i] = job.tile(tile + i * job.step) + job.q4.codes; });
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { q[t] = job.x.q + (token + t) * job.x.q_stride; });
        clear(sum);
        if constexpr (kTokens <= 4) prefetch_heads<kTiles>(job, tile);
        size_t block = token * job.x.block_stride;
        for (uint32_t group = 0, column = 0; column < job.w.cols; group++) {
            const uint32_t end = smaller(column + job.w.group, job.w.cols);
            Vec part[kTiles][kTokens];
            clear(part);
            for (; column < end; block++) {
                const uint32_t columns = smaller(job.block, end - column);
                one_block<kTiles, kTokens>(job, tile, group, columns / 8, codes, q, block, part);
                column += columns;
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { codes[i] += size_t{columns} * 8; });
                unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { q[t] += columns; });
            }
            add_scaled(job, tile, group, part, sum);
        }
        store_all(job, token, tile, sum);
    }

private:
    template <int kTiles, int kTokens>
    PITH_KERNEL_INLINE static void one_block(const Job& job, uint32_t tile, uint32_t group, uint32_t octets,
                                             const uint8_t* const (&codes)[kTiles], const int8_t* const (&q)[kTokens], size_t block,
                                             Vec (&part)[kTiles][kTokens]) {
        Ints dot[kTiles][kTokens];
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            const Ints zeros = q4_zeros(job, job.tile(tile + i * job.step), group);
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { dot[i][t] = times(zeros, job.x.sum[block + t * job.x.block_stride]); });
        });
        dots(dot, codes, q, octets);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            const Vec scale = set1(job.x.scale[block + t * job.x.block_stride]);
            unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { part[i][t] = fma(to_float(dot[i][t]), scale, part[i][t]); });
        });
    }
};

// The same for groups of kTokenLanes interleaved tokens. The sums stay in memory, so that all registers are the integer sums'; a piece
// of the columns meets all groups before the next one, so that its weights come from the first level of the cache.
template <int kTiles>
class Q4Wide {
public:
    static constexpr uint32_t kGroups = 8;  // of tokens, at most
    Q4Wide(const Job& job, uint32_t token, uint32_t token_end, uint32_t tile)
        : job_(job), token_(token), token_end_(token_end), tile_(tile), groups_((token_end - token + kTokenLanes - 1) / kTokenLanes) {}

    // ahead: what to bring near meanwhile.
    void run(const uint8_t* ahead, size_t ahead_bytes) {
        const uint32_t weight_groups = groups_of(job_.w), piece = larger(1, kPiece / job_.w.group);
        const size_t share = align_64(ahead_bytes / (size_t{groups_} * weight_groups));
        for (uint32_t g = 0; g < groups_; g++) clear(sum_[g]);
        for (uint32_t begin = 0; begin < weight_groups; begin += piece) {
            for (uint32_t g = 0; g < groups_; g++) {
                columns(g, begin, smaller(begin + piece, weight_groups), ahead, share);
                ahead += piece * share;
            }
        }
        for (uint32_t g = 0; g < groups_; g++) store_group(g);
    }

private:
    static constexpr uint32_t kPiece = 1024;  // columns
    static constexpr int kSums = kTiles * int{kTokenLanes};
    struct Sums {
        alignas(64) float values[kSums * kTileRows];
        float* at(int i) { return values + i * int{kTileRows}; }
    };

    const Job& job_;
    const uint32_t token_, token_end_, tile_, groups_;
    Sums sum_[kGroups];

    static void clear(Sums& sums) {
        for (int i = 0; i < kSums; i++) store(sums.at(i), zero());
    }
    const uint8_t* tile(int i) const { return job_.tile(tile_ + static_cast<uint32_t>(i)); }

    // Weight groups [begin, end) times one group of tokens.
    void columns(uint32_t g, uint32_t begin, uint32_t end, const uint8_t* ahead, size_t share) {
        const Matrix& w = job_.w;
        const uint32_t token = token_ + g * kTokenLanes;
        uint32_t column = begin * w.group;
        const size_t block = column / job_.block;
        const uint8_t* codes[kTiles];
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { codes[i] = tile(i) + job_.q4.codes + size_t{column} * 8; });
        const int8_t* q = job_.x.q + token * job_.x.q_stride + size_t{column} * kTokenLanes;
        const float* scales = job_.x.scale + token * job_.x.block_stride + block * kTokenLanes;
        const int32_t* sums = job_.x.sum + token * job_.x.block_stride + block * kTokenLanes;
        Sums part;
        clear(part);
        for (uint32_t group = begin; group < end; group++) {
            const uint32_t group_end = smaller(column + w.group, w.cols);
            prefetch_far(ahead, share);
            ahead += share;
            for (bool first = true; column < group_end; first = false) {
                const uint32_t count = smaller(job_.block, group_end - column);
                column += count;
                one_block(group, count / 8, codes, q, scales, sums, first, column == group_end, part, sum_[g]);
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { codes[i] += size_t{count} * 8; });
                q += size_t{count} * kTokenLanes;
                scales += kTokenLanes;
                sums += kTokenLanes;
            }
        }
    }

    PITH_KERNEL_INLINE void one_block(uint32_t group, uint32_t octets, const uint8_t* const (&codes)[kTiles], const int8_t* q,
                                      const float* scales, const int32_t* sums, bool first, bool last, Sums& part, Sums& sum) {
        constexpr int kTokens = kTokenLanes;
        Ints dot[kTiles][kTokens];
        Vec weight[kTiles];
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            weight[i] = q4_scales(job_, tile(i), group);
            if (!job_.w.asymmetric) return;
            const Ints zeros = q4_zeros(job_, tile(i), group);
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { dot[i][t] = times(zeros, sums[t]); });
        });
        if (!job_.w.asymmetric) {  // the same for all tiles
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                const Ints offset = times(set1_int(8), sums[t]);
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t] = offset; });
            });
        }
        wide_dots(dot, codes, q, octets);
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            const Vec scale = set1(scales[t]);
            unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
                const Vec value = to_float(dot[i][t]);
                float* before = part.at(i * kTokens + t);
                float* total = sum.at(i * kTokens + t);
                const Vec now = first ? mul(value, scale) : fma(value, scale, load(before));
                last ? store(total, fma(now, weight[i], load(total))) : store(before, now);
            });
        });
    }

    void store_group(uint32_t g) {
        const uint32_t token = token_ + g * kTokenLanes, count = smaller(kTokenLanes, token_end_ - token);
        for (int i = 0; i < kTiles; i++)
            for (uint32_t t = 0; t < count; t++)
                job_.store(token + t, tile_ + static_cast<uint32_t>(i), load(sum_[g].at(i * int{kTokenLanes} + static_cast<int>(t))));
    }
};

// 8-bit weights. Float activations: a code is two nibbles, and 128 less.
struct Q8Exact {
    template <int kTiles, int kTokens>
    static void run(const Job& job, uint32_t token, uint32_t tile) {
        const float* x[kTokens];
        Vec sum[kTiles][kTokens];
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { x[t] = job.x.x + (token + t) * job.x.x_stride; });
        clear(sum);
        for (uint32_t group = 0, column = 0; column < job.w.cols; group++) {
            const uint32_t end = smaller(column + job.w.group, job.w.cols);
            Vec part[kTiles][kTokens];
            clear(part);
            for (; column < end; column += 4) quad<0>(job, tile, x, column, part);
            add_scaled(job, tile, group, part, sum);
        }
        store_all(job, token, tile, sum);
    }

private:
    template <int kColumn, int kTiles, int kTokens>
    PITH_KERNEL_INLINE static void quad(const Job& job, uint32_t tile, const float* const (&x)[kTokens], uint32_t column,
                                        Vec (&part)[kTiles][kTokens]) {
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
            const Ints codes = load_ints(job.tile(tile + i * job.step) + job.q4.codes + size_t{column} * kTileRows);
            const Vec low = to_float(nibble<8 * kColumn>(codes)), high = to_float(nibble<8 * kColumn + 4>(codes));
            const Vec weight = fma(high, set1(16.0f), sub(low, set1(128.0f)));
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE { part[i][t] = fma(weight, set1(x[t][column + kColumn]), part[i][t]); });
        });
        if constexpr (kColumn < 3) quad<kColumn + 1>(job, tile, x, column, part);
    }
};

// int8 activations, in rows of their own (kLanes 1) or interleaved (kTokenLanes); a group is one of their blocks.
template <uint32_t kLanes>
struct Q8Fast {
    template <int kTiles, int kTokens>
    static void run(const Job& job, uint32_t token, uint32_t tile) {
        constexpr uint32_t kStep = kLanes * 8;  // bytes from octet to octet of a token
        const uint8_t* codes[kTiles];
        const int8_t* q[kTokens];
        size_t block[kTokens];
        Vec sum[kTiles][kTokens];
        unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { codes[i] = job.tile(tile + i * job.step) + job.q4.codes; });
        unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
            const size_t at = token + static_cast<uint32_t>(t), lane = at % kLanes;
            q[t] = job.x.q + (at - lane) * job.x.q_stride + lane * 8;
            block[t] = (at - lane) * job.x.block_stride + lane;
        });
        clear(sum);
        if constexpr (kTokens <= 4) prefetch_heads<kTiles>(job, tile);
        for (uint32_t group = 0, column = 0; column < job.w.cols; group++) {
            const uint32_t columns = smaller(job.w.group, job.w.cols - column);
            Ints dot[kTiles][kTokens];
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                // What the tier's product takes a code of 0 for, the sum makes good.
                const Ints offset = kQ8Offset ? times(set1_int(kQ8Offset), job.x.sum[block[t]]) : set1_int(0);
                unroll<kTiles>([&](int i) PITH_KERNEL_INLINE { dot[i][t] = offset; });
            });
            dots_q8<kStep>(dot, codes, q, columns / 8);
            unroll<kTiles>([&](int i) PITH_KERNEL_INLINE {
                const Vec weight = load(reinterpret_cast<const float*>(job.tile(tile + i * job.step)) + group * kTileRows);
                unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                    sum[i][t] = fma(mul(to_float(dot[i][t]), set1(job.x.scale[block[t]])), weight, sum[i][t]);
                });
                codes[i] += size_t{columns} * kTileRows;
            });
            unroll<kTokens>([&](int t) PITH_KERNEL_INLINE {
                q[t] += columns / 8 * kStep;
                block[t] += kLanes;
            });
            column += columns;
        }
        store_all(job, token, tile, sum);
    }
};

// What a tier has of this: tiles at once (Tune::kWideTiles), or nothing.
template <class T>
constexpr int wide_tiles() {
    if constexpr (requires { T::kWideTiles; })
        return T::kWideTiles;
    else
        return 0;
}
template <class T>
constexpr uint32_t wide_lanes() {
    return wide_tiles<T>() ? kTokenLanes : 1;
}

template <int kTiles>
inline void wide(const Job& job, uint32_t token, uint32_t token_end, uint32_t tile, uint32_t tile_end) {
    if constexpr (kTiles > 0) {
        for (; tile_end - tile >= kTiles; tile += kTiles) {
            const uint32_t next = tile + kTiles;
            Q4Wide<kTiles>(job, token, token_end, tile).run(job.tile(next), smaller(tile_end - next, kTiles) * job.w.tile_bytes);
        }
        if constexpr (kTiles > 1) wide<kTiles / 2>(job, token, token_end, tile, tile_end);
    }
}
// As many tokens at once as the kernel has room for.
inline void wide_pieces(const Job& job, uint32_t token, uint32_t token_end, uint32_t tile, uint32_t tile_end) {
    constexpr int kTiles = wide_tiles<Tune>();
    constexpr uint32_t kMost = Q4Wide < kTiles ? kTiles : 1 > ::kGroups * kTokenLanes;
    for (; token < token_end; token += kMost) wide<kTiles>(job, token, smaller(token + kMost, token_end), tile, tile_end);
}

// Cuts [token_begin, token_end) x [tile_begin, tile_end) into register blocks, the largest first.
template <class Kernel, int kTiles, int kTokens>
inline void over_tokens(const Job& job, uint32_t token, uint32_t token_end, uint32_t tile) {
    for (; token_end - token >= kTokens; token += kTokens) Kernel::template run<kTiles, kTokens>(job, token, tile);
    if constexpr (kTokens > 1) over_tokens<Kernel, kTiles, kTokens / 2>(job, token, token_end, tile);
}
template <class Kernel, int kTiles, int kTokens>
inline void over_tiles(const Job& job, uint32_t token, uint32_t token_end, uint32_t tile, uint32_t tile_end) {
    for (; tile_end - tile >= kTiles; tile += kTiles) over_tokens<Kernel, kTiles, kTokens>(job, token, token_end, tile);
    if constexpr (kTiles > 1) over_tiles<Kernel, kTiles / 2, kTokens>(job, token, token_end, tile, tile_end);
}
// Few tokens read every weight once: a few streams of memory, long enough for the hardware to follow, and near to each other.
template <class Kernel, int kTiles, int kTokens>
inline void stream(Job job, uint32_t token, uint32_t tile, uint32_t tile_end) {
    constexpr uint32_t kLength = 8;
    while (tile_end - tile >= kTiles) {
        job.step = smaller((tile_end - tile) / kTiles, kLength);
        for (uint32_t i = 0; i < job.step; i++) Kernel::template run<kTiles, kTokens>(job, token, tile + i);
        tile += job.step * kTiles;
    }
    job.step = 1;
    for (; tile < tile_end; tile++) Kernel::template run<1, kTokens>(job, token, tile);
}
template <class Kernel, class Shape>
inline void cut(const Job& job, uint32_t token, uint32_t token_end, uint32_t tile, uint32_t tile_end) {
    if (token >= token_end || tile >= tile_end) return;
    switch (token_end - token) {
        case 1:
            return stream<Kernel, Shape::kSingle, 1>(job, token, tile, tile_end);
        case 2:
            return stream<Kernel, Shape::kFew, 2>(job, token, tile, tile_end);
        case 3:
            return stream<Kernel, Shape::kFew, 3>(job, token, tile, tile_end);
        case 4:
            return stream<Kernel, Shape::kFew, 4>(job, token, tile, tile_end);
        default:
            return over_tiles<Kernel, Shape::kTiles, Shape::kTokens>(job, token, token_end, tile, tile_end);
    }
}

inline void matmul(const Matrix& w, const Activations& x, uint32_t token_begin, uint32_t token_end, uint32_t tile_begin, uint32_t tile_end,
                   float* y, size_t y_stride) {
    Job job{w, x, y, y_stride, {}, 0, 1};
    switch (w.type) {
        case Type::F32:
            return cut<Dense<Type::F32>, Tune::DenseShape>(job, token_begin, token_end, tile_begin, tile_end);
        case Type::F16:
            return cut<Dense<Type::F16>, Tune::DenseShape>(job, token_begin, token_end, tile_begin, tile_end);
        case Type::BF16:
            return cut<Dense<Type::BF16>, Tune::DenseShape>(job, token_begin, token_end, tile_begin, tile_end);
        case Type::Q8:
            job.q4.codes = q8_codes(w);
            job.q4.scale_size = sizeof(float);
            if (!x.q) return cut<Q8Exact, Tune::ExactShape>(job, token_begin, token_end, tile_begin, tile_end);
            return x.lanes > 1 ? cut<Q8Fast<kTokenLanes>, Tune::FastShape>(job, token_begin, token_end, tile_begin, tile_end)
                               : cut<Q8Fast<1>, Tune::FastShape>(job, token_begin, token_end, tile_begin, tile_end);
        case Type::Q4:
            break;
    }
    job.q4 = q4_layout(w);
    job.block = activation_block(w.group);
    if (x.q && x.lanes > 1) {
        wide_pieces(job, token_begin, token_end, tile_begin, tile_end);
    } else if (x.q) {
        cut<Q4Fast, Tune::FastShape>(job, token_begin, token_end, tile_begin, tile_end);
    } else {
        cut<Q4Exact, Tune::ExactShape>(job, token_begin, token_end, tile_begin, tile_end);
    }
}

}  // namespace
}  // namespace pith::kernels
