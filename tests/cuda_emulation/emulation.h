// CUDA device code as plain C++ for g++: what the kernels use, and nothing else.
//
// Every thread of a block is a fiber (emulation.cpp). A fiber runs until it needs the others: at a
// warp operation, at __syncthreads or at its end. So the code between two such points is atomic, and
// a launch gives the same bits every time unless a seed asks for another order.
#pragma once
#include <limits>
#include <math.h>
#include <string.h>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __constant__ static
// One section for all, so that a block can be started with poisoned shared memory.
#define __shared__ static __attribute__((section("cuda_shared")))
#define assert(condition) \
    ((condition) ? void() : emulation::fail("assertion failed at %s:%d: %s", __FILE__, __LINE__, #condition))

namespace emulation {

constexpr unsigned WARP = 32, BLOCK = 128;

struct Index {
    unsigned x, y, z;
};

enum Operation { SYNCWARP, SHFL, SHFL_UP, SHFL_DOWN, SHFL_XOR, BALLOT, ANY, ALL, SYNCTHREADS };

// Waits for the live lanes of mask. Returns the value of lane `source` for shuffles, the ballot of
// value != 0 for votes.
unsigned long long warp(Operation, unsigned mask, unsigned long long value, unsigned source,
                        const char *file, int line);
void block(const char *file, int line);
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *launch(const char *kernel, void (*body)(void **), void **arguments, unsigned blocks,
                   unsigned long long seed);

template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>)
{
    kernel(*static_cast<A *>(arguments[I])...);
}

template <class... A> inline void call(void (*kernel)(A...), void **arguments)
{
    call(kernel, arguments, std::index_sequence_for<A...>());
}

}  // namespace emulation

extern emulation::Index threadIdx, blockIdx, gridDim;
constexpr emulation::Index blockDim = {emulation::BLOCK, 1, 1};
constexpr int warpSize = emulation::WARP;

// The function that the host calls; arguments are pointers to values, as for cuLaunchKernel.
#define EMULATION_KERNEL(name)                                                                \
    extern "C" __attribute__((visibility("default"))) const char *emulate_##name(             \
        void **arguments, unsigned blocks, unsigned long long seed)                           \
    {                                                                                         \
        return emulation::launch(                                                             \
            #name, [](void **values) { emulation::call(name, values); }, arguments, blocks, seed); \
    }

// ---- warps and blocks. The last two parameters are where in the source the call stands.

#define EMULATION_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
// Other threads write memory while this one waits.
#define EMULATION_MEMORY asm volatile("" ::: "memory")

namespace emulation {

template <class T>
__forceinline__ T shuffle(Operation operation, unsigned mask, T value, int source, const char *file,
                          int line)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof(T));
    EMULATION_MEMORY;
    bits = warp(operation, mask, bits, static_cast<unsigned>(source), file, line);
    EMULATION_MEMORY;
    memcpy(&value, &bits, sizeof(T));
    return value;
}

__forceinline__ unsigned vote(Operation operation, unsigned mask, bool value, const char *file,
                              int line)
{
    EMULATION_MEMORY;
    const unsigned long long bits = warp(operation, mask, value, 0, file, line);
    EMULATION_MEMORY;
    return static_cast<unsigned>(bits);
}

inline int lane() { return static_cast<int>(threadIdx.x % WARP); }

}  // namespace emulation

__forceinline__ void __syncthreads(EMULATION_SITE)
{
    EMULATION_MEMORY;
    emulation::block(file, line);
    EMULATION_MEMORY;
}

__forceinline__ void __syncwarp(unsigned mask = 0xffffffffu, EMULATION_SITE)
{
    emulation::vote(emulation::SYNCWARP, mask, false, file, line);
}

template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATION_SITE)
{
    const int from = (emulation::lane() & -width) + (source & (width - 1));
    return emulation::shuffle(emulation::SHFL, mask, value, from, file, line);
}

template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, EMULATION_SITE)
{
    const int lane = emulation::lane(), from = lane ^ flip;
    return emulation::shuffle(emulation::SHFL_XOR, mask, value,
                              from < (lane & -width) + width ? from : lane, file, line);
}

template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                                   EMULATION_SITE)
{
    const int lane = emulation::lane(), from = lane + static_cast<int>(distance);
    return emulation::shuffle(emulation::SHFL_DOWN, mask, value,
                              from < (lane & -width) + width ? from : lane, file, line);
}

template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                                 EMULATION_SITE)
{
    const int lane = emulation::lane(), from = lane - static_cast<int>(distance);
    return emulation::shuffle(emulation::SHFL_UP, mask, value, from >= (lane & -width) ? from : lane,
                              file, line);
}

__forceinline__ unsigned __ballot_sync(unsigned mask, int value, EMULATION_SITE)
{
    return emulation::vote(emulation::BALLOT, mask, value != 0, file, line);
}

__forceinline__ int __any_sync(unsigned mask, int value, EMULATION_SITE)
{
    return emulation::vote(emulation::ANY, mask, value != 0, file, line) != 0;
}

__forceinline__ int __all_sync(unsigned mask, int value, EMULATION_SITE)
{
    return emulation::vote(emulation::ALL, mask, value == 0, file, line) == 0;
}

inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- arithmetic that is never contracted: what g++ is left to itself is, as by NVIDIA's compilers

inline double __dmul_rn(double a, double b)
{
    const volatile double product = a * b;
    return product;
}
inline double __dadd_rn(double a, double b)
{
    const volatile double sum = a + b;
    return sum;
}

// ---- atomics

namespace emulation {
template <class T, class U> inline T exchange(T *address, U value)
{
    const T old = *address;
    *address = static_cast<T>(value);
    return old;
}
template <class T> struct Same {
    using type = T;
};
template <class T> using same = typename Same<T>::type;
template <class T, class... Allowed> constexpr bool is_any = (std::is_same_v<T, Allowed> || ...);
}  // namespace emulation

template <class T> inline T atomicAdd(T *address, emulation::same<T> value)
{
    static_assert(emulation::is_any<T, int, unsigned, unsigned long long, float, double>,
                  "CUDA has no atomicAdd for this type");
    if constexpr (std::is_same_v<T, int>) {  // wraps
        return emulation::exchange(address, static_cast<unsigned>(*address) + static_cast<unsigned>(value));
    } else {
        return emulation::exchange(address, *address + value);
    }
}
template <class T> inline T atomicMax(T *address, emulation::same<T> value)
{
    static_assert(std::is_integral_v<T>, "CUDA has no atomicMax for this type");
    return emulation::exchange(address, *address < value ? value : *address);
}
template <class T> inline T atomicMin(T *address, emulation::same<T> value)
{
    static_assert(std::is_integral_v<T>, "CUDA has no atomicMin for this type");
    return emulation::exchange(address, value < *address ? value : *address);
}
template <class T> inline T atomicOr(T *address, emulation::same<T> value)
{
    static_assert(std::is_integral_v<T>, "CUDA has no atomicOr for this type");
    return emulation::exchange(address, *address | value);
}
template <class T> inline T atomicExch(T *address, emulation::same<T> value)
{
    return emulation::exchange(address, value);
}
template <class T>
inline T atomicCAS(T *address, emulation::same<T> expected, emulation::same<T> value)
{
    static_assert(std::is_integral_v<T>, "CUDA has no atomicCAS for this type");
    return emulation::exchange(address, *address == expected ? value : *address);
}

// ---- arithmetic

template <class T> inline T __ldg(const T *address) { return *address; }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }

template <class A, class B> inline std::common_type_t<A, B> min(A a, B b)
{
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) {
        return std::fmin(static_cast<T>(a), static_cast<T>(b));
    } else {
        return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
    }
}
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b)
{
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) {
        return std::fmax(static_cast<T>(a), static_cast<T>(b));
    } else {
        return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
    }
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }

namespace emulation {
// The conversion instructions saturate, and turn NaN into 0.
template <class T> inline int saturated(T x)
{
    if (isnan(x)) return 0;
    if (x <= static_cast<T>(-2147483648.0)) return std::numeric_limits<int>::min();
    if (x >= static_cast<T>(2147483648.0)) return std::numeric_limits<int>::max();
    return static_cast<int>(x);
}
}  // namespace emulation

inline int __float2int_rd(float x) { return emulation::saturated(floorf(x)); }
inline int __float2int_rn(float x) { return emulation::saturated(nearbyintf(x)); }
inline int __float2int_rz(float x) { return emulation::saturated(truncf(x)); }
inline int __double2int_rd(double x) { return emulation::saturated(floor(x)); }
inline int __double2int_rn(double x) { return emulation::saturated(nearbyint(x)); }
inline int __double2int_rz(double x) { return emulation::saturated(trunc(x)); }
