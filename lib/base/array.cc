// The arena's blocks: each doubles the last, up to a megabyte.
#include "base/array.h"

#include "base/check.h"

namespace pith {

void* Arena::bytes(size_t size, size_t alignment) {
    if (alignment > kCacheLine || size > std::numeric_limits<size_t>::max() / 2) return nullptr;
    if (block_) {
        const size_t at = align_up(used_, alignment);
        if (at <= block_->size && size <= block_->size - at) {
            used_ = at + size;
            return memset(reinterpret_cast<char*>(block_) + at, 0, size);
        }
    }
    size_t total = block_ ? block_->size * 2 : 4096;
    if (total > 1 << 20) total = 1 << 20;
    const size_t first = align_up(sizeof(Block), kCacheLine);
    if (total < first + size) total = first + size;
    Block* block = static_cast<Block*>(allocator_->alloc(allocator_->user, total, kCacheLine));
    if (!block) return nullptr;
    block->previous = block_;
    block->size = total;
    block_ = block;
    used_ = first + size;
    return memset(reinterpret_cast<char*>(block) + first, 0, size);
}

char* Arena::copy(std::string_view text) {
    char* to = static_cast<char*>(bytes(text.size() + 1, 1));
    if (to && !text.empty()) memcpy(to, text.data(), text.size());
    return to;
}

void Arena::reset() {
    while (block_) {
        Block* previous = block_->previous;
        allocator_->free(allocator_->user, block_, block_->size, kCacheLine);
        block_ = previous;
    }
    used_ = 0;
}

}  // namespace pith
