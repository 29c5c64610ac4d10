// Memory from the env's allocator: a growing Array of plain values, and an Arena for what lives and dies together.
// Nothing here throws: what can fail returns bool or NULL.
#pragma once
#include <pith/env.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <limits>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pith {

using Allocator = pith_allocator;  // a copy of the caller's; copied freely

inline constexpr size_t kCacheLine = 64;

template <class T>
class Array {
    static_assert(std::is_trivially_copyable_v<T>, "Array moves its elements with memcpy");

public:
    explicit Array(const Allocator& allocator) : allocator_(&allocator) {}  // the allocator must outlive the array
    ~Array() { reset(); }
    Array(Array&& other) noexcept
        : allocator_(other.allocator_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    Array& operator=(Array&& other) noexcept {
        std::swap(allocator_, other.allocator_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        return *this;
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    [[nodiscard]] bool reserve(size_t capacity) {
        if (capacity <= capacity_) return true;
        if (capacity > std::numeric_limits<size_t>::max() / 2 / sizeof(T)) return false;
        T* data = static_cast<T*>(allocator_->alloc(allocator_->user, capacity * sizeof(T), kAlignment));
        if (!data) return false;
        if (size_) memcpy(static_cast<void*>(data), data_, size_ * sizeof(T));
        if (data_) allocator_->free(allocator_->user, data_, capacity_ * sizeof(T), kAlignment);
        data_ = data;
        capacity_ = capacity;
        return true;
    }
    // New elements are zero bytes.
    [[nodiscard]] bool resize(size_t size) {
        if (!reserve(size)) return false;
        if (size > size_) memset(static_cast<void*>(data_ + size_), 0, (size - size_) * sizeof(T));
        size_ = size;
        return true;
    }
    [[nodiscard]] bool push(const T& value) {
        const T copy = value;  // `value` may stand in this array
        if (size_ == capacity_ && !reserve(size_ < 8 ? 8 : size_ + size_ / 2)) return false;
        data_[size_++] = copy;
        return true;
    }
    [[nodiscard]] bool append(const T* values, size_t count) {
        if (count == 0) return true;
        if (count > capacity_ - size_) {
            const size_t grown = size_ + size_ / 2;
            if (count > std::numeric_limits<size_t>::max() - size_ || !reserve(size_ + count > grown ? size_ + count : grown)) return false;
        }
        memcpy(static_cast<void*>(data_ + size_), values, count * sizeof(T));
        size_ += count;
        return true;
    }
    void pop() { size_--; }
    void clear() { size_ = 0; }
    void shrink(size_t size) { size_ = size; }  // size <= this->size()
    void reset() {
        if (data_) allocator_->free(allocator_->user, data_, capacity_ * sizeof(T), kAlignment);
        data_ = nullptr;
        size_ = capacity_ = 0;
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    T& back() { return data_[size_ - 1]; }
    std::span<T> span() { return {data_, size_}; }
    std::span<const T> span() const { return {data_, size_}; }

private:
    static constexpr size_t kAlignment = alignof(T) > 16 ? alignof(T) : 16;
    const Allocator* allocator_;
    T* data_ = nullptr;
    size_t size_ = 0, capacity_ = 0;
};

// Bump allocation in growing blocks; everything is freed with the arena. Only for types without destructors.
class Arena {
public:
    explicit Arena(const Allocator& allocator) : allocator_(&allocator) {}
    ~Arena() { reset(); }
    Arena(Arena&& other) noexcept
        : allocator_(other.allocator_), block_(std::exchange(other.block_, nullptr)), used_(std::exchange(other.used_, 0)) {}
    Arena& operator=(Arena&&) = delete;

    // Zeroed; NULL when out of memory. count 0 gives a pointer that may not be read.
    template <class T>
    [[nodiscard]] T* make(size_t count = 1) {
        static_assert(std::is_trivially_destructible_v<T>);
        if (count > std::numeric_limits<size_t>::max() / 2 / sizeof(T)) return nullptr;
        return static_cast<T*>(bytes(count * sizeof(T), alignof(T)));
    }
    // A NUL-terminated copy; NULL when out of memory.
    [[nodiscard]] char* copy(std::string_view text);
    [[nodiscard]] void* bytes(size_t size, size_t alignment);
    void reset();
    const Allocator& allocator() const { return *allocator_; }

private:
    struct Block {
        Block* previous;
        size_t size;
    };
    const Allocator* allocator_;
    Block* block_ = nullptr;
    size_t used_ = 0;
};

// Objects with destructors, for the few that need one.
template <class T, class... Args>
[[nodiscard]] T* create(const Allocator& allocator, Args&&... args) {
    void* memory = allocator.alloc(allocator.user, sizeof(T), alignof(T) > 16 ? alignof(T) : 16);
    return memory ? new (memory) T(static_cast<Args&&>(args)...) : nullptr;
}

template <class T>
void destroy(const Allocator& allocator, T* object) {
    if (!object) return;
    const Allocator copy = allocator;  // it may live in the object
    object->~T();
    copy.free(copy.user, object, sizeof(T), alignof(T) > 16 ? alignof(T) : 16);
}

// string_view::substr drags in std::__throw_out_of_range: these clamp instead.
constexpr std::string_view slice(std::string_view text, size_t from, size_t count = std::string_view::npos) {
    if (from > text.size()) from = text.size();
    if (count > text.size() - from) count = text.size() - from;
    return {text.data() + from, count};
}
constexpr bool starts_with(std::string_view text, std::string_view prefix) {
    return text.size() >= prefix.size() && slice(text, 0, prefix.size()) == prefix;
}
constexpr bool ends_with(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && slice(text, text.size() - suffix.size()) == suffix;
}

}  // namespace pith
