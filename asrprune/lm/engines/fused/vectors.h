// Vectors of float32 as wide as the processor's, and the functions of them that a pass needs.

#pragma once

#include <cmath>
#include <cstdint>

#if defined(__SSE2__)
#if defined(__GNUC__) && !defined(__clang__)  // GCC 12 warns of its own header
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

#define INLINE __attribute__((always_inline)) inline  // a call a product costs 3 %

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define WIDE 1
#endif

namespace {

#if WIDE
constexpr int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), aligned(4), may_alias));
#else
constexpr int64_t kLanes = 8;
typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(32), aligned(4), may_alias));
#endif

// On this thread, numbers too small for float32's whole precision are 0 as long as this lives: the
// weights of far tokens are often that small, and each would cost a hundred cycles.
struct Flushed {
#if defined(__SSE2__)
  Flushed() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~Flushed() { _mm_setcsr(before_); }
  Flushed(const Flushed&) = delete;
  Flushed& operator=(const Flushed&) = delete;

 private:
  const unsigned before_;
#endif
};

constexpr int64_t padded(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }
inline Lanes all(float value) { return Lanes{} + value; }

#if WIDE
inline Lanes smaller(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
inline Lanes larger(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }

inline __m256 halved(Lanes v) {
  return _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1);
}
#elif defined(__AVX2__)
inline Lanes smaller(Lanes a, Lanes b) { return _mm256_min_ps(a, b); }
inline Lanes larger(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }
inline __m256 halved(Lanes v) { return v; }
#else
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
#endif

#if defined(__AVX2__)
inline float sum(Lanes lanes) {
  const __m256 v = halved(lanes);
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// sum(a), sum(b), sum(c), sum(d), in the same order of additions.
inline void four_sums(Lanes first, Lanes second, Lanes third, Lanes fourth, float* to) {
  const __m256 a = halved(first), b = halved(second), c = halved(third), d = halved(fourth);
  const __m256 halves = _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31);
  const __m256 others = _mm256_permute2f128_ps(c, d, 0x20) + _mm256_permute2f128_ps(c, d, 0x31);
  const __m256 pairs =
      _mm256_shuffle_ps(halves, others, 0x44) + _mm256_shuffle_ps(halves, others, 0xee);
  const __m256 every = _mm256_hadd_ps(pairs, pairs);  // a c a c | b d b d
  const __m128 low = _mm256_castps256_ps128(every), high = _mm256_extractf128_ps(every, 1);
  _mm_storeu_ps(to, _mm_unpacklo_ps(low, high));
}
#else
inline float sum(Lanes v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

inline void four_sums(Lanes a, Lanes b, Lanes c, Lanes d, float* to) {
  to[0] = sum(a), to[1] = sum(b), to[2] = sum(c), to[3] = sum(d);
}
#endif

inline float largest(Lanes v) {
#if WIDE
  return _mm512_reduce_max_ps(v);
#else
  float found = v[0];
  for (int i = 1; i < kLanes; ++i) found = found > v[i] ? found : v[i];
  return found;
#endif
}

inline float smallest(Lanes v) { return -largest(-v); }

// 1 / x, relative error below 1e-6.
inline Lanes reciprocal(Lanes x) {
#if WIDE
  const Lanes near = _mm512_rcp14_ps(x);
  return near * (2.0f - x * near);
#else
  return 1.0f / x;
#endif
}

// e^x, relative error below 3e-6; 0 far below, and inf only where float has it.
inline Lanes exponential(Lanes x) {
  x = larger(smaller(x, all(88.0f)), all(-87.0f));
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Lanes rounded = x * 1.44269504f + shift;
  const Lanes r = x - (rounded - shift) * 0.693147181f;
  Lanes p = r * 0.00829168071f + 0.0419152755f;  // error of the polynomial: 8e-8
  p = p * r + 0.166676647f;
  p = p * r + 0.499988969f;
  p = p * r + 0.999999665f;
  p = p * r + 1.00000007f;
  const Ints power = (reinterpret_cast<const Ints&>(rounded) << 23) + (127 << 23);
  return p * reinterpret_cast<const Lanes&>(power);
}

// x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3): GELU in its tanh form.
inline Lanes gelu(Lanes x) {
  const Lanes u = x * (x * x * 0.044715f + 1.0f) * 1.5957691216f;
  return x * reciprocal(exponential(-u) + 1.0f);
}

// x / (1 + e^-x).
inline Lanes silu(Lanes x) { return x * reciprocal(exponential(-x) + 1.0f); }

}  // namespace
