// Arithmetic on numbers that came from a file: false means that the result does not fit.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <limits>
#include <type_traits>

namespace pith {

template <class T>
[[nodiscard]] constexpr bool checked_add(T a, T b, T* sum) {
    static_assert(std::is_unsigned_v<T>);
    *sum = static_cast<T>(a + b);
    return *sum >= a;
}

template <class T>
[[nodiscard]] constexpr bool checked_mul(T a, T b, T* product) {
    static_assert(std::is_unsigned_v<T>);
    if (b != 0 && a > std::numeric_limits<T>::max() / b) return false;
    *product = static_cast<T>(a * b);
    return true;
}

template <class T>
constexpr T ceil_div(T a, T b) {
    static_assert(std::is_unsigned_v<T>);
    return a / b + (a % b != 0);
}

// `alignment` is a power of two; the caller knows that the sum fits.
template <class T>
constexpr T align_up(T value, T alignment) {
    static_assert(std::is_unsigned_v<T>);
    return static_cast<T>((value + alignment - 1) & ~(alignment - 1));
}

}  // namespace pith
