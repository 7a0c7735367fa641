// Products in bfloat16, added up in float32. On processors that cannot multiply it, the rounded
// values are multiplied in float32.

#pragma once

#include "matrices.h"

namespace {

inline float widened(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

struct Bf16 {
  typedef uint16_t Value;
  static constexpr bool kFloatSums = true;
#if TILES
  static constexpr int64_t kStep = 32;
#else
  static constexpr int64_t kStep = 2;
#endif

  struct Rows {
    Buffer values;  // uint16_t [kTile, width]
    int64_t width = 0;
  };

  static uint16_t rounded(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value) return static_cast<uint16_t>(bits >> 16 | 64);  // still a NaN
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // ties to even
  }

  // Makes room for a tile of rows of `size` values.
  static void start(int64_t size, Rows& to) {
    to.width = padded(size, kStep);
    to.values.room<uint16_t>(to.width * kTile);
  }

  static void round(const float* x, int64_t size, int64_t row, Rows& to) {
    uint16_t* values = to.values.data<uint16_t>() + row * to.width;
    int64_t i = 0;
#if defined(__AVX512BF16__) && WIDE
    for (; i + kLanes <= size; i += kLanes) {
      const __m256i half = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(load(x + i)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i), half);
    }
#elif defined(__AVX2__)
    const __m256i one = _mm256_set1_epi32(1), most = _mm256_set1_epi32(0x7fff);
    for (; i + 8 <= size; i += 8) {
      const __m256 v = _mm256_loadu_ps(x + i);
      const __m256i bits = _mm256_castps_si256(v);
      const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
      __m256i half = _mm256_add_epi32(_mm256_add_epi32(bits, most), odd);
      const __m256i wrong = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
      half = _mm256_blendv_epi8(half, _mm256_set1_epi32(0x7fc00000), wrong);
      half = _mm256_srli_epi32(half, 16);
      half = _mm256_permute4x64_epi64(_mm256_packus_epi32(half, half), 8);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(values + i), _mm256_castsi256_si128(half));
    }
#endif
    for (; i < size; ++i) values[i] = rounded(x[i]);
    for (; i < to.width; ++i) values[i] = 0;
  }

#if defined(__AVX512BF16__) && WIDE

  static constexpr int64_t kInstructions = kAvx512Bf16;
  static constexpr int64_t kTogether = 12, kBeside = 2;

  template <int kRows, int kPanels>
  INLINE static void multiply(const uint16_t* x, int64_t width, const uint16_t* panel,
                              float (&sums)[kPanels][kRows][kPanel]) {
    __m512 found[kPanels][kRows];
    for (int p = 0; p < kPanels; ++p)
      for (int r = 0; r < kRows; ++r) found[p][r] = _mm512_setzero_ps();
    for (int64_t k = 0; k < width; k += 2, panel += 2 * kPanel) {
      __m512bh w[kPanels];
      for (int p = 0; p < kPanels; ++p)
        w[p] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + p * kPanel * width));
      for (int r = 0; r < kRows; ++r) {
        const __m512i two = _mm512_set1_epi32(four_bytes(x + r * width + k));
        for (int p = 0; p < kPanels; ++p)
          found[p][r] = _mm512_dpbf16_ps(found[p][r], reinterpret_cast<__m512bh>(two), w[p]);
      }
    }
    for (int p = 0; p < kPanels; ++p)
      for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(sums[p][r], found[p][r]);
  }

#else

#if WIDE
  static constexpr int64_t kInstructions = kAvx512;
#elif defined(__AVX2__)
  static constexpr int64_t kInstructions = kAvx2;
#else
  static constexpr int64_t kInstructions = kPlain;
#endif
  static constexpr int64_t kTogether = 4, kBeside = 1;

  template <int kRows, int kPanels>
  INLINE static void multiply(const uint16_t* x, int64_t width, const uint16_t* panel,
                              float (&sums)[kPanels][kRows][kPanel]) {
    constexpr int kParts = kPanel / kLanes;
    Lanes found[kRows][kParts] = {};
    for (int64_t k = 0; k < width; k += 2, panel += 2 * kPanel) {
      for (int c = 0; c < kParts; ++c) {
        const Ints two = reinterpret_cast<const Ints*>(panel)[c];
        const Ints even = two << 16, odd = two & static_cast<int32_t>(0xffff0000);
        for (int r = 0; r < kRows; ++r) {
          found[r][c] += reinterpret_cast<const Lanes&>(even) * widened(x[r * width + k]);
          found[r][c] += reinterpret_cast<const Lanes&>(odd) * widened(x[r * width + k + 1]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kParts; ++c) store(sums[0][r] + c * kLanes, found[r][c]);
  }

#endif

  template <int kRows, int kPanels>
  INLINE static void panel_product(const Rows& x, int64_t row, const Matrix& matrix, int64_t panel,
                                   bool add, float* to, int64_t stride) {
    alignas(kLine) float sums[kPanels][kRows][kPanel];
    multiply(x.values.data<uint16_t>() + row * x.width, x.width,
             static_cast<const uint16_t*>(matrix.weights) + panel * kPanel * x.width, sums);
    for (int64_t c = 0; c < kPanels * kPanel; c += kLanes) {
      const Lanes bias = matrix.bias ? load(matrix.bias + panel * kPanel + c) : Lanes{};
      for (int r = 0; r < kRows; ++r) {
        float* at = to + r * stride + c;
        const Lanes found = load(sums[c / kPanel][r] + c % kPanel);
        store(at, found + (add ? load(at) + bias : bias));
      }
    }
  }

  static void row_of(const Matrix& matrix, int64_t output, float* to) {
    const int64_t width = padded(matrix.inputs, kStep);
    const uint16_t* from = static_cast<const uint16_t*>(matrix.weights) +
                           output / kPanel * kPanel * width + output % kPanel * 2;
    for (int64_t i = 0; i < matrix.inputs; ++i) to[i] = widened(from[i / 2 * 2 * kPanel + i % 2]);
  }
};

}  // namespace
