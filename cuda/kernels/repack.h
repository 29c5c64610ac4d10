// Repacking of weights as files have them into layout.h: parameters and launch shapes; included by the host and by nvcc.
// Everything a matrix owns is zero before its first kernel; kernels only add to it, in any cutting of the source, once or again.
#pragma once
#include <stdint.h>

#include "../layout.h"

namespace pith::cuda {

enum class SourceType : uint32_t { F16, BF16, F32 };

// `order` below: row n of a part is the source's row order[n]; NULL: n.
// Where the rows of a source go in a matrix: whole tiles from row `first` (a multiple of 16) on, or the first or last eight of every tile.
enum class Rows : uint32_t { Whole, Upper, Lower };
struct RowPlace {
    Rows rows;
    uint32_t first;
};

// "repack_scales": a GPTQ source's zero points and scales, all groups. Before its codes.
struct RepackScalesParams {
    Matrix to;
    RowPlace place;
    const uint32_t* qzeros;  // [groups][rows / 8]; NULL if `to` has no zeros
    const void* scales;      // [groups][rows]
    SourceType type;
    uint32_t rows;
    const uint32_t* order;
};

// "repack_codes": octets [octet_begin, octet_end) of qweight [cols / 8][rows], eight columns each.
struct RepackCodesParams {
    Matrix to;
    RowPlace place;
    const uint32_t* qweight;  // from octet_begin on
    const uint32_t* perm;     // stored column p is the source's column perm[p]; NULL: p
    uint32_t rows;
    uint32_t octet_begin, octet_end;
    uint32_t chunk_begin, chunk_end;  // repack_chunks()
    uint32_t reserved;
    const uint32_t* order;
};

// "repack_dense": rows [row_begin, row_begin + row_count) of a dense matrix into tiles, plain rows, or both.
struct RepackDenseParams {
    Matrix to;  // data == NULL: no tiles; its row_scale is written all the same
    RowPlace place;
    uint16_t* plain;     // F16 [rows][cols], whose row r is the source's row r; NULL: none
    const void* source;  // from row_begin on
    SourceType type;
    uint32_t row_begin, row_count;
    uint32_t cols;
};

// "repack_floats": a vector to float32, at its rows' places.
struct RepackFloatsParams {
    float* to;
    const void* source;
    RowPlace place;
    SourceType type;
    uint32_t count;
    const uint32_t* order;
};

inline constexpr uint32_t kRepackThreads = 256;
inline constexpr uint32_t kRepackTilesPerBlock = kRepackThreads / 32;

inline uint32_t repack_tiles(RowPlace place, uint32_t rows) {
    const uint32_t each = place.rows == Rows::Whole ? kTileRows : kTileRows / 2;
    return (rows + each - 1) / each;
}

// Chunks that octets of the source reach: all of them if columns are permuted.
inline void repack_chunks(RepackCodesParams& p) {
    p.chunk_begin = p.perm ? 0 : p.octet_begin / (kChunkCols / 8);
    p.chunk_end = p.perm ? p.to.chunks : (p.octet_end + kChunkCols / 8 - 1) / (kChunkCols / 8);
}

struct RepackGrid {
    uint32_t x, y;
};
inline RepackGrid repack_codes_grid(const RepackCodesParams& p) {
    return {(repack_tiles(p.place, p.rows) + kRepackTilesPerBlock - 1) / kRepackTilesPerBlock, p.chunk_end - p.chunk_begin};
}
// A thread takes four groups of rows g and g + 8.
inline RepackGrid repack_scales_grid(const RepackScalesParams& p) {
    return {(repack_tiles(p.place, p.rows) * 8 + kRepackThreads - 1) / kRepackThreads, (p.to.groups + 3) / 4};
}
inline RepackGrid repack_dense_grid(const RepackDenseParams& p) { return {p.row_count, 1}; }
inline RepackGrid repack_floats_grid(const RepackFloatsParams& p) { return {(p.count + kRepackThreads - 1) / kRepackThreads, 1}; }

}  // namespace pith::cuda
