// A whole forward pass of the Transformer over tries, its matrices in 8 bits or in bfloat16.
//
// All but the products of matrices (norms, attention, activations, softmax, the sum over the
// vocabulary) is float32, the last in double.
//
// Places stand in depth-first order, so that all that a place attends to, its ancestors, stands
// before it: a block goes over the places a tile at a time, and what it computes stays in the
// second-level cache. There are no threads here: callers run several passes at once.
//
// packed.py compiles this file for the machine and packs the matrices; it needs no header of Python
// or torch. The interface is plain C.

#include <algorithm>
#include <vector>

#include "bf16.h"
#include "int8.h"

namespace {

constexpr int64_t kVocab = 1024;  // columns of the output layer at a time

// What a pass computes with. A thread's next pass finds it in memory that is there already.
template <class Format>
struct Scratch {
  typename Format::Rows rows, inner_rows;
  Buffer stream, keys, values;  // of all places
  Buffer inner, query, wide, gate, logits;  // of a tile
  Buffer row, weights;                      // of a place
  std::vector<int64_t> stack;
};

void add_rows(const float* bias, int64_t rows, int64_t size, bool add, float* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < size; ++i)
      to[r * stride + i] = (add ? to[r * stride + i] : 0.0f) + (bias ? bias[i] : 0.0f);
}

// `rows` rows of `size` values, `stride` apart, as products read them.
template <class Format>
void round_rows(const float* x, int64_t stride, int64_t rows, int64_t size,
                typename Format::Rows& to) {
  Format::start(size, to);
  for (int64_t r = 0; r < rows; ++r) Format::round(x + r * stride, size, r, to);
}

// to[rows, outputs] = (to +) linear(x); rows of `to` have room for whole panels.
template <class Format>
void apply(const Linear& linear, const typename Format::Rows& x, int64_t rows, bool add, float* to,
           int64_t stride, Scratch<Format>& s) {
  if (linear.first.inputs == 0 || linear.first.outputs == 0) {
    add_rows(linear.bias, rows, linear.outputs, add, to, stride);
    return;
  }
  const int64_t rank = linear.first.outputs;
  if (linear.kind == 0) {
    product<Format>(x, rows, linear.first, 0, rank, add, to, stride);
    return;
  }
  const int64_t behind = padded(rank, kPanel);
  const int64_t wide = behind + apart(linear.second.outputs);
  float* inner = s.inner.template room<float>(kTile * wide);
  product<Format>(x, rows, linear.first, 0, rank, false, inner, wide);
  round_rows<Format>(inner, wide, rows, rank, s.inner_rows);
  if (linear.kind == 1) {
    product<Format>(s.inner_rows, rows, linear.second, 0, linear.second.outputs, add, to, stride);
    return;
  }
  product<Format>(s.inner_rows, rows, linear.second, 0, linear.second.outputs, false,
                  inner + behind, wide);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < linear.outputs; ++i) {
      const int64_t from = linear.order[i];
      const float value = inner[r * wide + (from < rank ? from : behind + from - rank)];
      float* at = to + r * stride + i;
      *at = (add ? *at : 0.0f) + (value + (linear.bias ? linear.bias[i] : 0.0f));
    }
}

void normalise(const Norm& norm, float epsilon, const float* x, int64_t size, float* to) {
  float mean = 0.0f;
  int64_t i = 0;
  if (norm.bias) {
    Lanes total{};
    for (; i + kLanes <= size; i += kLanes) total += load(x + i);
    mean = sum(total);
    for (; i < size; ++i) mean += x[i];
    mean /= size;
  }
  Lanes squares{};
  for (i = 0; i + kLanes <= size; i += kLanes) {
    const Lanes away = load(x + i) - mean;
    squares += away * away;
  }
  float variance = sum(squares);
  for (; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(variance / size + epsilon);
  for (i = 0; i + kLanes <= size; i += kLanes) {
    const Lanes bias = norm.bias ? load(norm.bias + i) : Lanes{};
    store(to + i, (load(x + i) - mean) * factor * load(norm.weight + i) + bias);
  }
  for (; i < size; ++i)
    to[i] = (x[i] - mean) * factor * norm.weight[i] + (norm.bias ? norm.bias[i] : 0.0f);
}

// Turns the pairs (i, i + size / 2) of each head of a row by the angles of its position.
void turn(float* row, int64_t heads, int64_t size, const float* cos, const float* sin) {
  const int64_t half = size / 2;
  for (int64_t h = 0; h < heads; ++h, row += size) {
    int64_t i = 0;
    for (; i + kLanes <= half; i += kLanes) {
      const Lanes first = load(row + i), second = load(row + half + i);
      store(row + i, first * load(cos + i) - second * load(sin + i));
      store(row + half + i, second * load(cos + half + i) + first * load(sin + half + i));
    }
    for (; i < half; ++i) {
      const float first = row[i], second = row[half + i];
      row[i] = first * cos[i] - second * sin[i];
      row[half + i] = second * cos[half + i] + first * sin[half + i];
    }
  }
}

// weights[j] = query . keys[above[j]], four keys at a time; the last ones are repeated.
void key_products(const float* query, const float* keys, int64_t stride, const int64_t* above,
                  int64_t count, int64_t size, float* weights) {
  for (int64_t j = 0; j < count; j += 4) {
    const float* key[4];
    for (int64_t n = 0; n < 4; ++n)
      key[n] = keys + above[j + n < count ? j + n : count - 1] * stride;
    Lanes found[4] = {};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (int n = 0; n < 4; ++n) found[n] += load(query + i) * load(key[n] + i);
    four_sums(found[0], found[1], found[2], found[3], weights + j);
    for (; i < size; ++i)
      for (int n = 0; n < 4; ++n) weights[j + n] += query[i] * key[n][i];
  }
}

// One head of one place: the mean of the values of `above`, weighted by softmax(query . key).
void attend(const float* query, const float* keys, const float* values, int64_t stride,
            const std::vector<int64_t>& above, int64_t size, float* weights, float* to) {
  const int64_t count = static_cast<int64_t>(above.size()), filled = padded(count, kLanes);
  const float factor = 1.0f / std::sqrt(static_cast<float>(size));
  key_products(query, keys, stride, above.data(), count, size, weights);
  for (int64_t j = count; j < filled; ++j) weights[j] = weights[0];
  Lanes high = load(weights);
  for (int64_t j = kLanes; j < filled; j += kLanes) high = larger(high, load(weights + j));
  const float most = largest(high) * factor;
  Lanes total{};
  for (int64_t j = 0; j < filled; j += kLanes) {
    Lanes e = exponential(load(weights + j) * factor - most);
    for (int64_t i = count - j; i < kLanes; ++i) e[i] = 0.0f;
    total += e;
    store(weights + j, e);
  }
  const float inverse = 1.0f / sum(total);
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    Lanes found[4] = {};
    for (int64_t j = 0; j < count; ++j) {
      const float* value = values + above[j] * stride + i;
      for (int v = 0; v < 4; ++v) found[v] += load(value + v * kLanes) * weights[j];
    }
    for (int v = 0; v < 4; ++v) store(to + i + v * kLanes, found[v] * inverse);
  }
  for (; i + kLanes <= size; i += kLanes) {
    Lanes found{};
    for (int64_t j = 0; j < count; ++j) found += load(values + above[j] * stride + i) * weights[j];
    store(to + i, found * inverse);
  }
  for (; i < size; ++i) {
    float found = 0.0f;
    for (int64_t j = 0; j < count; ++j) found += values[above[j] * stride + i] * weights[j];
    to[i] = found * inverse;
  }
}

// Keys and values of a forest's nodes that stay between passes, a row of whole panels each.
// Place p is node nodes[p]; what it attends to are itself and the `parents` above it (-1: none).
struct Kept {
  const int64_t *nodes, *parents;
  float *const *keys, *const *values;  // of each block
};

template <class Format>
class Pass {
 public:
  Pass(const Model& model, int64_t places, const int64_t* positions, const Kept* kept = nullptr)
      : model_(model), places_(places), positions_(positions), kept_(kept) {
    stride_ = apart(model.width);
    x_ = s_.stream.template room<float>(padded(places, 16) * stride_);
  }

  void embed(const int64_t* tokens) {
    const int64_t rank = model_.output.inputs;
    const Matrix& table = model_.embedding.inputs ? model_.embedding : model_.output;
    for (int64_t start = 0; start < places_; start += kTile) {
      const int64_t rows = tile(start);
      float* x = x_ + start * stride_;
      if (model_.spread.inputs == 0) {
        for (int64_t r = 0; r < rows; ++r)
          Format::row_of(table, tokens[start + r], x + r * stride_);
      } else {
        float* vectors = s_.inner.template room<float>(kTile * rank);
        for (int64_t r = 0; r < rows; ++r)
          Format::row_of(table, tokens[start + r], vectors + r * rank);
        round_rows<Format>(vectors, rank, rows, rank, s_.rows);
        product<Format>(s_.rows, rows, model_.spread, 0, model_.width, false, x, stride_);
      }
      if (model_.positions == nullptr) continue;
      for (int64_t r = 0; r < rows; ++r) {
        const float* where = model_.positions + positions_[start + r] * model_.width;
        for (int64_t i = 0; i < model_.width; ++i) x[r * stride_ + i] += where[i];
      }
    }
  }

  // Without kept keys, place p attends to the places a <= p with last[a] >= p.
  void block(int64_t index, const int64_t* last) {
    const Block& block = model_.blocks[index];
    const int64_t kv_stride = padded(block.kv_heads * model_.head_width, kPanel);
    if (block.heads > 0 && kept_ == nullptr) {
      s_.keys.template room<float>(padded(places_, 16) * kv_stride);
      s_.values.template room<float>(padded(places_, 16) * kv_stride);
    }
    s_.stack.clear();
    for (int64_t start = 0; start < places_; start += kTile) {
      const int64_t rows = tile(start);
      float* x = x_ + start * stride_;
      if (block.heads > 0) {
        attention(index, last, start, rows, kv_stride, x);
      } else {
        add_rows(block.out.bias, rows, model_.width, true, x, stride_);
      }
      feed_forward(block, start, rows, x);
    }
  }

  // out[pair] = ln p(targets[pair] | the path to place nodes[sources[pair]]); sources ascend, and
  // without `nodes` they are the places themselves.
  void output(const int64_t* nodes, int64_t count, const int64_t* sources, const int64_t* targets,
              int64_t pairs, double* out) {
    const int64_t vocabulary = model_.output.outputs;
    float* logits = s_.logits.template room<float>(kTile * apart(kVocab));
    int64_t pair = 0;
    for (int64_t start = 0; start < count; start += kTile) {
      const int64_t rows = count - start < kTile ? count - start : kTile;
      Format::start(model_.width, s_.rows);
      for (int64_t r = 0; r < rows; ++r)
        normalised(model_.norm, (nodes ? nodes[start + r] : start + r), r);
      if (model_.narrow.inputs > 0) {
        const int64_t rank = model_.narrow.outputs, wide = apart(rank);
        float* inner = s_.inner.template room<float>(kTile * wide);
        product<Format>(s_.rows, rows, model_.narrow, 0, rank, false, inner, wide);
        round_rows<Format>(inner, wide, rows, rank, s_.rows);
      }
      int64_t bounds[kTile + 1];
      for (int64_t r = 0; r < rows; ++r) {
        bounds[r] = pair;
        while (pair < pairs && sources[pair] == start + r) ++pair;
      }
      bounds[rows] = pair;
      float most[kTile];
      double total[kTile];
      for (int64_t r = 0; r < rows; ++r) most[r] = -INFINITY, total[r] = 0.0;
      for (int64_t first = 0; first < vocabulary; first += kVocab) {
        const int64_t size = vocabulary - first < kVocab ? vocabulary - first : kVocab;
        product<Format>(s_.rows, rows, model_.output, first, first + size, false, logits,
                        apart(kVocab));
        for (int64_t r = 0; r < rows; ++r) {
          add_exponentials(logits + r * apart(kVocab), size, most[r], total[r]);
          for (int64_t p = bounds[r]; p < bounds[r + 1]; ++p)
            if (targets[p] >= first && targets[p] < first + size)
              out[p] = logits[r * apart(kVocab) + targets[p] - first];
        }
      }
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t p = bounds[r]; p < bounds[r + 1]; ++p)
          out[p] -= most[r] + std::log(total[r]);
    }
  }

 private:
  int64_t tile(int64_t start) const {
    return places_ - start < kTile ? places_ - start : kTile;
  }

  // Row r of s_.rows is norm(the place's row of the stream).
  void normalised(const Norm& norm, int64_t place, int64_t r) {
    float* made = s_.row.template room<float>(model_.width);
    normalise(norm, model_.epsilon, x_ + place * stride_, model_.width, made);
    Format::round(made, model_.width, r, s_.rows);
  }

  void all_normalised(const Norm& norm, int64_t start, int64_t rows) {
    Format::start(model_.width, s_.rows);
    for (int64_t r = 0; r < rows; ++r) normalised(norm, start + r, r);
  }

  void attention(int64_t index, const int64_t* last, int64_t start, int64_t rows,
                 int64_t kv_stride, float* x) {
    const Block& block = model_.blocks[index];
    const int64_t head = model_.head_width, attended = block.heads * head;
    const int64_t stride = apart(attended);
    float* keys = kept_ ? kept_->keys[index] : s_.keys.template data<float>();
    float* values = kept_ ? kept_->values[index] : s_.values.template data<float>();
    all_normalised(block.norm_attention, start, rows);
    float* query = s_.query.template room<float>(kTile * stride);
    apply<Format>(block.query, s_.rows, rows, false, query, stride, s_);
    turned(query, start, rows, block.heads, stride);
    project(block.key, block.kv_heads, start, rows, keys, kv_stride);
    project(block.value, 0, start, rows, values, kv_stride);
    float* context = s_.row.template room<float>(stride);
    Format::start(attended, s_.rows);
    for (int64_t r = 0; r < rows; ++r) {
      find_path(start + r, last);
      float* weights = s_.weights.template room<float>(padded(s_.stack.size(), kLanes));
      for (int64_t h = 0; h < block.heads; ++h) {
        const int64_t shared = block.owners[h] * head;
        attend(query + r * stride + h * head, keys + shared, values + shared, kv_stride, s_.stack,
               head, weights, context + h * head);
      }
      Format::round(context, attended, r, s_.rows);
    }
    apply<Format>(block.out, s_.rows, rows, true, x, stride_, s_);
  }

  // Keys or values of the rows, to where they stand; `turning` heads of them turn.
  void project(const Linear& linear, int64_t turning, int64_t start, int64_t rows, float* to,
               int64_t stride) {
    float* made = kept_ ? s_.wide.template room<float>(kTile * stride) : to + start * stride;
    apply<Format>(linear, s_.rows, rows, false, made, stride, s_);
    turned(made, start, rows, turning, stride);
    if (kept_ == nullptr) return;
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(to + kept_->nodes[start + r] * stride, made + r * stride, stride * 4);
  }

  void turned(float* x, int64_t start, int64_t rows, int64_t heads, int64_t stride) const {
    if (model_.cos == nullptr) return;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t where = positions_[start + r] * model_.head_width;
      turn(x + r * stride, heads, model_.head_width, model_.cos + where, model_.sin + where);
    }
  }

  // The rows of keys that the place attends to, root first; places are asked for in order.
  void find_path(int64_t place, const int64_t* last) {
    if (kept_ == nullptr) {
      while (!s_.stack.empty() && last[s_.stack.back()] < place) s_.stack.pop_back();
      s_.stack.push_back(place);
      return;
    }
    s_.stack.clear();
    for (int64_t node = kept_->nodes[place]; node >= 0; node = kept_->parents[node])
      s_.stack.push_back(node);
    std::reverse(s_.stack.begin(), s_.stack.end());
  }

  void feed_forward(const Block& block, int64_t start, int64_t rows, float* x) {
    const int64_t size = block.up.outputs, wide = apart(size);
    if (size == 0) {
      add_rows(block.down.bias, rows, model_.width, true, x, stride_);
      return;
    }
    all_normalised(block.norm_ffn, start, rows);
    float* inner = s_.wide.template room<float>(kTile * wide);
    apply<Format>(block.up, s_.rows, rows, false, inner, wide, s_);
    const float* gate = nullptr;
    if (model_.gated) {
      float* made = s_.gate.template room<float>(kTile * wide);
      apply<Format>(block.gate, s_.rows, rows, false, made, wide, s_);
      gate = made;
    }
    Format::start(size, s_.rows);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = inner + r * wide;
      if (gate == nullptr) {
        for (int64_t i = 0; i < size; i += kLanes) store(row + i, gelu(load(row + i)));
      } else {
        const float* by = gate + r * wide;
        for (int64_t i = 0; i < size; i += kLanes)
          store(row + i, load(row + i) * silu(load(by + i)));
      }
      Format::round(row, size, r, s_.rows);
    }
    apply<Format>(block.down, s_.rows, rows, true, x, stride_, s_);
  }

  static void add_exponentials(const float* logits, int64_t size, float& most, double& total) {
    Lanes high = all(most);
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) high = larger(high, load(logits + i));
    float now = largest(high);
    for (; i < size; ++i) now = logits[i] > now ? logits[i] : now;
    Lanes added{};
    for (i = 0; i + kLanes <= size; i += kLanes) added += exponential(load(logits + i) - now);
    double here = sum(added);
    for (; i < size; ++i) here += std::exp(logits[i] - now);
    total = total * std::exp(static_cast<double>(most) - now) + here;
    most = now;
  }

  [[maybe_unused]] const Flushed flushed_{};
  const Tiles tiles_{};
  const Model& model_;
  const int64_t places_;
  const int64_t* positions_;
  const Kept* kept_;
  int64_t stride_;
  float* x_;
  Scratch<Format>& s_ = scratch();

  // Not inlined: else its address is asked for again in the loops that use it.
  __attribute__((noinline)) static Scratch<Format>& scratch() {
    static thread_local Scratch<Format> one;
    return one;
  }
};

template <class Format>
int log_probs(const Model* model, const int64_t* tokens, const int64_t* positions,
              const int64_t* last, int64_t places, const int64_t* nodes, int64_t count,
              const int64_t* sources, const int64_t* targets, int64_t pairs, double* out) {
  try {
    Pass<Format> pass(*model, places, positions);
    pass.embed(tokens);
    for (int64_t i = 0; i < model->block_count; ++i) pass.block(i, last);
    pass.output(nodes, count, sources, targets, pairs, out);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

template <class Format>
int more(const Model* model, const int64_t* nodes, const int64_t* tokens, const int64_t* positions,
         int64_t places, const int64_t* parents, float* const* keys, float* const* values,
         const int64_t* sources, const int64_t* targets, int64_t pairs, double* out) {
  try {
    const Kept kept{nodes, parents, keys, values};
    Pass<Format> pass(*model, places, positions, &kept);
    pass.embed(tokens);
    for (int64_t i = 0; i < model->block_count; ++i) pass.block(i, nullptr);
    pass.output(nullptr, places, sources, targets, pairs, out);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

template <class Format>
void multiply(const Matrix* matrix, const float* x, int64_t rows, float* out) {
  [[maybe_unused]] const Tiles tiles;
  typename Format::Rows made;
  round_rows<Format>(x, matrix->inputs, rows, matrix->inputs, made);
  const int64_t stride = apart(matrix->outputs), outputs = matrix->outputs;
  Buffer room;
  float* products = room.room<float>(kTile * stride);
  product<Format>(made, rows, *matrix, 0, outputs, false, products, stride);
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(out + r * outputs, products + r * stride, outputs * 4);
}

}  // namespace

// For each number format NAME:
//
// asrprune_NAME_log_probs: the log-probabilities of a batch (trie.py), `places` of it: tokens,
// positions and last [places], nodes [count], sources and targets [pairs].
//
// asrprune_NAME_more: of more nodes of a forest: nodes, tokens and positions [places], parents
// [nodes of the forest], keys and values of every block with a row for each node of the forest.
// Parents come before their children, in this call or one before it. sources, targets and out
// [pairs]: see Pass::output. Both return 1 without memory, else 0.
//
// asrprune_NAME_product: x [rows, inputs], at most kTile rows, times the matrix: out
// [rows, outputs].
//
// asrprune_NAME_step: the multiple to which the inputs of its matrices are filled up.
//
// asrprune_NAME_instructions: what its products are made with, by the index in packed.py.
#define FORMAT(NAME, Format)                                                                      \
  extern "C" int asrprune_##NAME##_log_probs(                                                     \
      const Model* model, const int64_t* tokens, const int64_t* positions, const int64_t* last,   \
      int64_t places, const int64_t* nodes, int64_t count, const int64_t* sources,                \
      const int64_t* targets, int64_t pairs, double* out) {                                       \
    return log_probs<Format>(model, tokens, positions, last, places, nodes, count, sources,       \
                             targets, pairs, out);                                                \
  }                                                                                               \
  extern "C" int asrprune_##NAME##_more(                                                          \
      const Model* model, const int64_t* nodes, const int64_t* tokens, const int64_t* positions,  \
      int64_t places, const int64_t* parents, float* const* keys, float* const* values,           \
      const int64_t* sources, const int64_t* targets, int64_t pairs, double* out) {               \
    return more<Format>(model, nodes, tokens, positions, places, parents, keys, values, sources,  \
                        targets, pairs, out);                                                     \
  }                                                                                               \
  extern "C" void asrprune_##NAME##_product(const Matrix* matrix, const float* x, int64_t rows,   \
                                            float* out) {                                         \
    multiply<Format>(matrix, x, rows, out);                                                       \
  }                                                                                               \
  extern "C" int64_t asrprune_##NAME##_step() { return Format::kStep; }                           \
  extern "C" int64_t asrprune_##NAME##_instructions() {                                           \
    return have_tiles() ? kAmx : Format::kInstructions;                                           \
  }

FORMAT(int8, Int8)
FORMAT(bf16, Bf16)
