// A model in memory, and what the products of all number formats share.
//
// A format is a struct with: Value, the type of a stored weight; kStep, to which multiple inputs
// are filled up with zeros; Rows, a tile of places as products read them, `width` of them a row;
// start() and round(), which make those, a row at a time; panel_product(), kRows rows times kPanels
// panels of outputs, of which kTogether and kBeside are multiplied at once; kFloatSums, whether
// sums of products are results; finish(), which makes results of those that are not; row_of(), one
// output's weights; and kInstructions, what multiplies without tiles.

#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "vectors.h"

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__linux__)
#define TILES 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int64_t kPanel = 16;  // columns that are packed and multiplied together
#if TILES
constexpr int64_t kTile = 192;  // places that go through a block together
#else
constexpr int64_t kTile = 96;
#endif

// How far rows of `size` floats stand apart: room for whole panels, and never a power of two, so
// that rows do not meet in the same lines of the cache.
constexpr int64_t apart(int64_t size) { return padded(size, 2 * kPanel) + kPanel; }

// What multiplies: INSTRUCTIONS in packed.py.
constexpr int64_t kPlain = 0, kAvx2 = 1, kAvx512 = 2, kVnni = 3, kAvx512Bf16 = 4, kAmx = 5;

constexpr int64_t kLine = 64;  // bytes of a line of the cache, and of a row of a tile of AMX

// Memory that grows, from the start of a line of the cache; what stood there before is lost.
class Buffer {
 public:
  template <class Value>
  Value* room(int64_t count) {
    const size_t lines = (count * sizeof(Value) + sizeof(Line) - 1) / sizeof(Line);
    if (lines > size_) {
      lines_.reset();
      size_ = 0;  // if there is no memory, the next pass must see that
      lines_.reset(new Line[lines]);
      size_ = lines;
    }
    return data<Value>();
  }
  template <class Value>
  Value* data() {
    return reinterpret_cast<Value*>(lines_.get());
  }
  template <class Value>
  const Value* data() const {
    return reinterpret_cast<const Value*>(lines_.get());
  }

 private:
  struct alignas(kLine) Line {
    uint8_t bytes[kLine];
  };
  std::unique_ptr<Line[]> lines_;
  size_t size_ = 0;
};

}  // namespace

// The matrix [outputs, inputs] in panels of kPanel outputs: of each the inputs, so many at a time
// as fill 4 bytes, of these all outputs' weights. Inputs are filled up to a multiple of kStep,
// outputs to panels, with zeros; `scales`, `sums` (of an output's quantised weights; both null
// where the format has none) and `bias` (or null) are as long as the filled outputs.
struct Matrix {
  const void* weights;
  const float* scales;
  const int32_t* sums;
  const float* bias;
  int64_t inputs, outputs;
};

// kind 0: first. 1: second(first). 2: [first, second(first)][order] + bias.
struct Linear {
  Matrix first, second;
  const int64_t* order;  // [outputs]
  const float* bias;     // [outputs], or null; where it is not part of the last matrix
  int64_t kind, outputs;
};

// Layer norm; without bias RMS norm.
struct Norm {
  const float *weight, *bias;
};

struct Block {
  Norm norm_attention;
  Linear query, key, value, out;
  Norm norm_ffn;
  Linear gate, up, down;  // gate: 0 outputs where the FFN has none
  const int64_t* owners;  // [heads]: the key and value head of each
  int64_t heads, kv_heads;
};

struct Model {
  const float* positions;  // [positions, width], or null
  const float *cos, *sin;  // [positions, head_width], by which queries and keys turn, or null
  const Block* blocks;
  int64_t width, head_width, block_count, gated;
  Norm norm;
  Matrix spread;     // rank to width, inputs 0 where the embedding is whole
  Matrix narrow;     // width to rank, likewise
  Matrix embedding;  // its rows are the tokens' vectors; inputs 0: those of `output`
  Matrix output;     // rank (else width) to vocabulary
  float epsilon;
};

namespace {

#if TILES

struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Whether the system lets this process use tiles; Linux wants to be asked.
inline bool have_tiles() {
  constexpr int kAsk = 0x1023, kTileData = 18;
  static const bool allowed = syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
  return allowed;
}

// What stands before is in memory: GCC does not know what the instructions of tiles read.
inline void written() { __asm__ volatile("" ::: "memory"); }

// Tiles of 16 rows of 64 bytes, on this thread, as long as this lives.
struct Tiles {
  Tiles() {
    if (!have_tiles()) return;
    TileShapes shapes;
    for (int i = 0; i < 8; ++i) shapes.row_bytes[i] = kLine, shapes.rows[i] = 16;
    written();
    _tile_loadconfig(&shapes);
  }
  ~Tiles() {
    if (have_tiles()) _tile_release();
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

#define DOT(sums, rows, panel)                           \
  do {                                                   \
    if constexpr (sizeof(typename Format::Value) == 1) { \
      _tile_dpbusd(sums, rows, panel);                   \
    } else {                                             \
      _tile_dpbf16ps(sums, rows, panel);                 \
    }                                                    \
  } while (false)

#define BEGIN(sums, to, bias)           \
  do {                                  \
    if (add) {                          \
      _tile_loadd(sums, to, to_stride); \
    } else if (bias) {                  \
      _tile_loadd(sums, bias, 0);       \
    } else {                            \
      _tile_zero(sums);                 \
    }                                   \
  } while (false)

// What comes next into the second-level cache, so many lines a step.
struct Ahead {
  const uint8_t *next, *end;
  int64_t lines;
};

// To 32 (kTall) or 16 rows at `to` with one panel of columns or (kBroad) two: the sums of the rows'
// products with the panels, which are `panel_bytes` apart. They are added to what stands there
// (add), to the panels' `bias` (or null) in every row, or to nothing. Strides are in bytes.
template <class Format, bool kTall, bool kBroad>
INLINE void multiply_tiles(const uint8_t* rows, int64_t stride, const uint8_t* panel,
                           int64_t panel_bytes, bool add, const float* bias, uint8_t* to,
                           int64_t to_stride, Ahead& ahead) {
  const uint8_t* below = rows + 16 * stride;
  const uint8_t* beside = panel + panel_bytes;
  uint8_t* to_below = to + 16 * to_stride;
  const float* bias_beside = bias ? bias + kPanel : nullptr;
  written();
  BEGIN(0, to, bias);
  if constexpr (kBroad) BEGIN(1, to + kLine, bias_beside);
  if constexpr (kTall) BEGIN(2, to_below, bias);
  if constexpr (kTall && kBroad) BEGIN(3, to_below + kLine, bias_beside);
  for (int64_t k = 0; k < stride; k += kLine) {
    for (int64_t i = 0; i < ahead.lines && ahead.next < ahead.end; ++i, ahead.next += kLine)
      __builtin_prefetch(ahead.next, 0, 2);
    _tile_loadd(6, panel + 16 * k, kLine);
    _tile_loadd(4, rows + k, stride);
    DOT(0, 4, 6);
    if constexpr (kBroad) {
      _tile_loadd(7, beside + 16 * k, kLine);
      DOT(1, 4, 7);
    }
    if constexpr (kTall) {
      _tile_loadd(5, below + k, stride);
      DOT(2, 5, 6);
      if constexpr (kBroad) DOT(3, 5, 7);
    }
  }
  _tile_stored(0, to, to_stride);
  if constexpr (kBroad) _tile_stored(1, to + kLine, to_stride);
  if constexpr (kTall) _tile_stored(2, to_below, to_stride);
  if constexpr (kTall && kBroad) _tile_stored(3, to_below + kLine, to_stride);
}

#undef DOT
#undef BEGIN

// Rows `row`.. of x, one block of 16 or 32, with one panel or two: see multiply_tiles.
template <class Format, bool kTall, bool kBroad>
INLINE void tile_product(const typename Format::Rows& x, int64_t row, int64_t rows,
                         const Matrix& matrix, int64_t panel, bool add, float* to, int64_t stride,
                         Ahead& ahead) {
  const int64_t bytes = x.width * static_cast<int64_t>(sizeof(typename Format::Value));
  const uint8_t* from = x.values.template data<uint8_t>() + row * bytes;
  const uint8_t* weights =
      static_cast<const uint8_t*>(matrix.weights) + panel * kPanel * bytes;
  if constexpr (Format::kFloatSums) {
    multiply_tiles<Format, kTall, kBroad>(from, bytes, weights, kPanel * bytes, add,
                                          matrix.bias ? matrix.bias + panel * kPanel : nullptr,
                                          reinterpret_cast<uint8_t*>(to), stride * 4, ahead);
  } else {
    alignas(64) int32_t sums[32 * 32];
    multiply_tiles<Format, kTall, kBroad>(from, bytes, weights, kPanel * bytes, false, nullptr,
                                          reinterpret_cast<uint8_t*>(sums), 32 * 4, ahead);
    for (int64_t j = 0; j < (kBroad ? 2 : 1); ++j)
      Format::finish(sums + kPanel * j, 32, x, row, rows < 32 ? rows : 32, matrix, panel + j, add,
                     to + kPanel * j, stride);
  }
}

// As `product`, by tiles.
template <class Format>
void product_by_tiles(const typename Format::Rows& x, int64_t rows, const Matrix& matrix,
                      int64_t first, int64_t last, bool add, float* to, int64_t stride) {
  const int64_t size = kPanel * x.width * static_cast<int64_t>(sizeof(typename Format::Value));
  const int64_t steps = (rows + 31) / 32 * (size / (16 * kLine));
  const int64_t lines = (2 * size / kLine + steps - 1) / steps;  // of the next two panels
  const int64_t panels = padded(last, kPanel) / kPanel;
  const uint8_t* weights = static_cast<const uint8_t*>(matrix.weights);
  if (Format::kFloatSums && add && matrix.bias) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = first; i < last; ++i) to[r * stride + i - first] += matrix.bias[i];
  }
  for (int64_t panel = first / kPanel; panel < panels; panel += 2) {
    float* column = to + panel * kPanel - first;
    const bool broad = panel + 1 < panels;
    const int64_t after = panel + 4 < panels ? panel + 4 : panels;
    Ahead ahead{weights + (panel + 2) * size, weights + after * size, lines};
    for (int64_t r = 0; r < rows; r += 32) {
      const bool tall = rows - r > 16;
      float* at = column + r * stride;
      if (tall && broad) {
        tile_product<Format, true, true>(x, r, rows - r, matrix, panel, add, at, stride, ahead);
      } else if (tall) {
        tile_product<Format, true, false>(x, r, rows - r, matrix, panel, add, at, stride, ahead);
      } else if (broad) {
        tile_product<Format, false, true>(x, r, rows - r, matrix, panel, add, at, stride, ahead);
      } else {
        tile_product<Format, false, false>(x, r, rows - r, matrix, panel, add, at, stride, ahead);
      }
    }
  }
}

#else

inline bool have_tiles() { return false; }

struct [[maybe_unused]] Tiles {};

#endif

// What comes next into the first-level cache.
struct Next {
  const uint8_t *from, *end;
};

// `rows` rows with kPanels panels from `panel` on.
template <class Format, int kPanels>
void rows_product(const typename Format::Rows& x, int64_t rows, const Matrix& matrix, int64_t panel,
                  Next next, bool add, float* to, int64_t stride) {
  constexpr int64_t kTogether = Format::kTogether;
  const int64_t steps = (rows + kTogether - 1) / kTogether * kLine;
  const int64_t lines = (next.end - next.from + steps - 1) / steps;
  int64_t r = 0;
  for (; r + kTogether <= rows; r += kTogether) {
    for (int64_t i = 0; i < lines && next.from < next.end; ++i, next.from += kLine)
      __builtin_prefetch(next.from);
    Format::template panel_product<kTogether, kPanels>(x, r, matrix, panel, add, to + r * stride,
                                                       stride);
  }
  if constexpr (kTogether > 4) {
    for (; r + 4 <= rows; r += 4)
      Format::template panel_product<4, kPanels>(x, r, matrix, panel, add, to + r * stride, stride);
  }
  for (; r < rows; ++r)
    Format::template panel_product<1, kPanels>(x, r, matrix, panel, add, to + r * stride, stride);
}

// Columns first..last (whole panels) of `rows` products; column `first` goes to to[0]. `to` has
// room for sixteens of rows, and what stands in those beyond `rows` is undefined.
template <class Format>
void product(const typename Format::Rows& x, int64_t rows, const Matrix& matrix, int64_t first,
             int64_t last, bool add, float* to, int64_t stride) {
#if TILES
  if (have_tiles()) return product_by_tiles<Format>(x, rows, matrix, first, last, add, to, stride);
#endif
  const int64_t size = kPanel * x.width * static_cast<int64_t>(sizeof(typename Format::Value));
  const int64_t panels = padded(last, kPanel) / kPanel;
  const uint8_t* weights = static_cast<const uint8_t*>(matrix.weights);
  constexpr int64_t kBeside = Format::kBeside;
  for (int64_t panel = first / kPanel; panel < panels; panel += kBeside) {
    const int64_t after = panel + kBeside;
    const int64_t then = after + kBeside < panels ? after + kBeside : panels;
    const Next next{weights + after * size, weights + then * size};
    float* at = to + panel * kPanel - first;
    if (after <= panels) {
      rows_product<Format, kBeside>(x, rows, matrix, panel, next, add, at, stride);
    } else {
      rows_product<Format, 1>(x, rows, matrix, panel, next, add, at, stride);
    }
  }
}

inline int32_t four_bytes(const void* from) {
  int32_t value;
  std::memcpy(&value, from, 4);
  return value;
}

}  // namespace
