// How weights, keys and values lie in device memory: the one description that the repacker and every kernel share.
//
// A matrix W [rows, cols] (outputs, inputs) is cut into row tiles of 16 and chunks of 64 columns. A tile's chunk is stored in the order in
// which mma.m16n8k16 and wgmma take their A operand, so that no kernel shuffles a weight: lane (g = lane / 4, t = lane % 4) of a warp
// holds, for step j of the chunk's four steps of 16 columns, the pairs of columns
//   a0: row g,     16 j + 2 t + {0, 1}        a1: row g + 8, the same columns
//   a2: row g,     16 j + 2 t + {8, 9}        a3: row g + 8, the same columns.
//
// Q4: 512 bytes a chunk, [lane][step] words. Word j has the eight codes of a0..a3 as nibbles
//   0: a0 first   1: a1 first   2: a2 first   3: a3 first   4: a0 second   5: a1 second   6: a2 second   7: a3 second
// so (word & 0x000f000f) | 0x64006400 is the half2 1024 + a0, (word & 0x00f000f0) | 0x64006400 is 1024 + 16 a1; after >> 8, a2 and a3.
// F16: 2048 bytes a chunk, [step][lane] of four words a0..a3, each two halves.
//
// Rows past the end and columns past the end are stored so that they contribute nothing as long as the input's padding is finite (Q4:
// code 8, or the zero point, with scale 0 for rows; F16: 0).
#pragma once
#include <stdint.h>

namespace pith::cuda {

inline constexpr uint32_t kTileRows = 16, kChunkCols = 64;
inline constexpr uint32_t kQ4ChunkBytes = 512, kF16ChunkBytes = 2048;

enum class WeightType : uint32_t { Q4, F16 };

// Passed to kernels by value; all pointers are the device's.
struct Matrix {
    const uint8_t* data;     // [tiles][chunks][kQ4ChunkBytes or kF16ChunkBytes], 1024-byte aligned
    const uint32_t* scales;  // Q4: half2 [tiles][groups][8]: (row g, row g + 8) of the tile; F16: NULL
    const uint32_t* zeros;   // Q4 asymmetric: [tiles][ceil(groups / 4)][8] words: byte i is group 4 c + i, low nibble row g, high nibble
                             // row g + 8; the zero point is the nibble + zero_offset. NULL: every zero point is 8
    const float* row_scale;  // float [tiles * 16]: what a row's sum is multiplied by at the end; NULL: 1. (Powers of two that bring
                             // weights or scales of types with a wider range into F16.)
    const float* bias;       // float [tiles * 16]; NULL: none
    WeightType type;
    uint32_t rows, cols;
    uint32_t tiles, chunks;       // ceil(rows / 16), ceil(cols / 64)
    uint32_t group, groups;       // Q4: column c belongs to group c / group; a multiple of 32; the last may be short. F16: 0
    uint32_t zero_offset;         // 0 or 1
    uint32_t reserved;
};

// Act-order: the matrix is stored with its columns sorted by group; stored column p multiplies input perm[p]. Who writes the input writes
// element i at inverse[i], so that no kernel gathers in its inner loop. NULL: the identity. Where gate and up are Q4 too, their rows are
// stored in the order that down wants: its inverse is NULL.

// Fused matrices: q, k and v are one matrix of stacked rows, each part padded to whole tiles; gate and up are one matrix whose tile i has
// gate rows 8 i .. 8 i + 7 as its rows 0-7 and the same rows of up as its rows 8-15, so that a lane holds a pair (gate in c0, c1, up in
// c2, c3 of its accumulators). Parts are fused when their kind, group, symmetry and perm agree; else they stay apart.

// Keys and values: F16 [layer][kv_head][position][head_dim], positions rounded up to kKvBlock, unwritten ones zero. head_dim is a multiple of 8 here.
inline constexpr uint32_t kKvBlock = 64;

}  // namespace pith::cuda
