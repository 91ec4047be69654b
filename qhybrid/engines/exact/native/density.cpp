// Density matrices in the Pauli basis: products of 4-vectors carried through maps of one qubit and through signed,
// scaled permutations of the Pauli strings; forward, and backward from kept states.
//
// A state is an array of vectors, one for each of the 4^n Pauli strings; the lanes are samples, or observables where
// the circuit is carried backwards (`transposed`). A step takes the strings in tiles of a few qubits, which fit the
// cache: it permutes and scales where it reads, and applies the maps of all qubits of the tile before it writes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace {

// Vectors of 32 or 16 bytes: the narrower ones where they leave fewer lanes empty.
template <class T, int W> struct Lanes { typedef T v __attribute__((vector_size(sizeof(T) * W))); };

struct Map { size_t stride; int64_t matrix; bool affine; };  // on the tile's qubit of that stride

struct Step {
  int64_t table, after;                                   // permutations in front and behind, or -1
  std::vector<uint32_t> local, outer;                     // index = outer + local
  std::vector<Map> maps;
};

struct Plan {
  int num_qubits, num_low;                                // qubits, and those of the start's second factor
  bool transposed, batched;                               // whether matrices differ from lane to lane
  int64_t num_matrices;
  std::vector<Step> steps;
  // Of each permutation: out[i] = scale[i] in[source[i]]; of one behind a step: out[source[i]] = scale[i] in[i].
  std::vector<std::vector<uint32_t>> source;
  std::vector<std::vector<float>> scale32;
  std::vector<std::vector<double>> scale64;

  size_t size() const { return size_t(1) << (2 * num_qubits); }
  const float* scale(int64_t k, float) const { return scale32[size_t(k)].data(); }
  const double* scale(int64_t k, double) const { return scale64[size_t(k)].data(); }

  Plan(const int64_t* ints, const uint32_t* sources, const double* scales) {
    num_qubits = int(*ints++), num_low = int(*ints++), transposed = *ints++, batched = *ints++;
    num_matrices = *ints++;
    for (int64_t left = *ints++; left--; sources += size(), scales += size()) {
      source.emplace_back(sources, sources + size());
      scale32.emplace_back(scales, scales + size());
      scale64.emplace_back(scales, scales + size());
    }
    for (int64_t left = *ints++; left--;) read_step(ints);
  }

 private:
  void read_step(const int64_t*& ints) {
    Step s;
    s.table = *ints++, s.after = *ints++;
    const uint64_t tile = uint64_t(*ints++);                        // mask of its qubits
    std::vector<int> inside, outside;
    for (int q = 0; q < num_qubits; ++q) (tile >> q & 1 ? inside : outside).push_back(q);
    s.local = offsets(inside), s.outer = offsets(outside);
    for (int64_t k = *ints++; k--;) {
      const int64_t qubit = *ints++, matrix = *ints++, affine = *ints++;
      const size_t place = size_t(std::lower_bound(inside.begin(), inside.end(), int(qubit)) - inside.begin());
      s.maps.push_back({size_t(1) << (2 * place), matrix, affine != 0});
    }
    steps.push_back(s);
  }

  static std::vector<uint32_t> offsets(const std::vector<int>& qubits) {
    std::vector<uint32_t> result(size_t(1) << (2 * qubits.size()), 0);
    for (size_t i = 0; i < result.size(); ++i)
      for (size_t k = 0; k < qubits.size(); ++k) result[i] |= uint32_t((i >> (2 * k) & 3) << (2 * qubits[k]));
    return result;
  }
};

// Applies rows X, Y, Z of a trace-preserving map, or its transpose, to a tile.
template <bool AFFINE, bool TRANSPOSED, class v>
static void apply(const v* from, v* to, size_t size, size_t stride, const v* matrix) {
  v m[12];                                                // a copy, which no store can change
  for (int k = 0; k < 12; ++k) m[k] = matrix[k];
  for (size_t h = 0; h < size; h += 4 * stride)
    for (size_t i = h; i < h + stride; ++i) {
      v one = from[i];
      const v x = from[i + stride], y = from[i + 2 * stride], z = from[i + 3 * stride];
      if constexpr (TRANSPOSED) {
        if constexpr (AFFINE) one += m[0] * x + m[4] * y + m[8] * z;
        to[i] = one;
        for (int c = 1; c < 4; ++c) to[i + size_t(c) * stride] = m[c] * x + m[4 + c] * y + m[8 + c] * z;
      } else {
        to[i] = one;
        for (int r = 0; r < 3; ++r) {
          v sum = m[4 * r + 1] * x + m[4 * r + 2] * y + m[4 * r + 3] * z;
          if constexpr (AFFINE) sum += m[4 * r] * one;
          to[i + size_t(r + 1) * stride] = sum;
        }
      }
    }
}

template <class v>
static void apply(bool affine, bool transposed, const v* from, v* to, size_t size, size_t stride, const v* m) {
  if (affine) (transposed ? apply<true, true, v> : apply<true, false, v>)(from, to, size, stride, m);
  else (transposed ? apply<false, true, v> : apply<false, false, v>)(from, to, size, stride, m);
}

// Adds left_r right_c to the gradient of the matrix entry (r, c).
template <bool AFFINE, class v>
static void learn(const v* left, const v* right, size_t size, size_t stride, v* total) {
  v d[12] = {};
  for (size_t h = 0; h < size; h += 4 * stride)
    for (size_t i = h; i < h + stride; ++i)
      for (int r = 0; r < 3; ++r) {
        const v a = left[i + size_t(r + 1) * stride];
        for (int c = AFFINE ? 0 : 1; c < 4; ++c) d[4 * r + c] += a * right[i + size_t(c) * stride];
      }
  for (int k = 0; k < 12; ++k) total[k] += d[k];
}

template <class v> static void learn(bool affine, const v* left, const v* right, size_t size, size_t stride, v* total) {
  (affine ? learn<true, v> : learn<false, v>)(left, right, size, stride, total);
}

template <class T> struct Call {
  const Plan& plan;
  int64_t groups;                                         // vectors of lanes
  const T *high, *low;                                    // start: (4^(n - num_low), C), (4^num_low, C)
  const T* matrices;                                      // (N, 12), or (N, 12, C)
  T* states;                                              // after each step: (groups, steps - 1, 4^n, L)
  T* last;                                                // (groups, 4^n, L)
};

template <class T> struct Gradients {
  const T* last;                                          // by the last state
  T *high, *low, *matrices;                               // of the same shapes as the arguments
};

template <class T, int W> struct Worker {
  typedef typename Lanes<T, W>::v v;
  // The lanes of two neighbouring strings; maps of all qubits but the tile's lowest take both at once.
  typedef typename Lanes<T, 2 * W>::v pair;
  static constexpr bool PAIRS = 2 * W * sizeof(T) <= 32;
  static constexpr size_t L = size_t(W);
  const Call<T>& call;
  const Plan& plan;
  std::vector<v> matrices, learned;
  std::vector<pair> matrices_of_pairs, learned_of_pairs;
  v *tiles = nullptr, *slope = nullptr;

  explicit Worker(const Call<T>& c) : call(c), plan(c.plan) {
    matrices.resize(size_t(12 * plan.num_matrices)), learned.resize(matrices.size());
    if (PAIRS) matrices_of_pairs.resize(matrices.size()), learned_of_pairs.resize(matrices.size());
  }

  static size_t largest_tile(const Plan& plan) {
    size_t largest = 1;
    for (const Step& s : plan.steps) largest = std::max(largest, s.local.size());
    return largest;
  }
  static size_t tile_vectors(const Plan& plan) {          // a tile before every map, and its gradient
    size_t maps = 1;
    for (const Step& s : plan.steps) maps = std::max(maps, s.maps.size());
    return largest_tile(plan) * (maps + 1);
  }

  size_t columns() const { return size_t(call.groups) * L; }
  v lanes(const T* from, size_t row, int64_t group) const {
    v x;
    memcpy(&x, from + row * columns() + size_t(group) * L, sizeof x);
    return x;
  }
  v* state(int64_t group, size_t step) const {            // after a step
    const size_t kept = plan.steps.size() - 1, bytes = plan.size() * L;
    if (step == kept) return reinterpret_cast<v*>(call.last + size_t(group) * bytes);
    return reinterpret_cast<v*>(call.states + (size_t(group) * kept + step) * bytes);
  }

  void load_matrices(int64_t group) {
    for (size_t k = 0; k < matrices.size(); ++k)
      matrices[k] = plan.batched ? lanes(call.matrices, k, group) : v{} + call.matrices[k];
    for (size_t k = 0; k < matrices_of_pairs.size(); ++k)
      for (int l = 0; l < 2 * W; ++l) matrices_of_pairs[k][l] = matrices[k][l % W];
  }

  void map(const Map& m, bool transposed, const v* from, v* to, size_t size) const {
    const size_t k = size_t(12 * m.matrix);
    if (PAIRS && m.stride > 1)
      apply<pair>(m.affine, transposed, reinterpret_cast<const pair*>(from), reinterpret_cast<pair*>(to), size / 2,
                  m.stride / 2, &matrices_of_pairs[k]);
    else apply<v>(m.affine, transposed, from, to, size, m.stride, &matrices[k]);
  }

  void learn_map(const Map& m, const v* left, const v* right, size_t size) {
    const size_t k = size_t(12 * m.matrix);
    if (PAIRS && m.stride > 1)
      learn<pair>(m.affine, reinterpret_cast<const pair*>(left), reinterpret_cast<const pair*>(right), size / 2,
                  m.stride / 2, &learned_of_pairs[k]);
    else learn<v>(m.affine, left, right, size, m.stride, &learned[k]);
  }

  void join_pairs() {
    for (size_t k = 0; k < learned_of_pairs.size(); ++k)
      for (int l = 0; l < 2 * W; ++l) learned[k][l % W] += learned_of_pairs[k][l];
  }

  struct Start {                                          // reads the product of both factors
    std::vector<v> high, low;
    int shift;
    v operator[](size_t i) const { return high[i >> shift] * low[i & ((size_t(1) << shift) - 1)]; }
  };
  Start start(int64_t group) const {
    Start s;
    s.shift = 2 * plan.num_low;
    s.low.resize(size_t(1) << s.shift), s.high.resize(plan.size() >> s.shift);
    for (size_t k = 0; k < s.low.size(); ++k) s.low[k] = lanes(call.low, k, group);
    for (size_t k = 0; k < s.high.size(); ++k) s.high[k] = lanes(call.high, k, group);
    return s;
  }

  template <class From> void gather(const Step& s, int64_t table, size_t o, const From& from, v* to) const {
    const size_t size = s.local.size();
    if (table < 0) {
      for (size_t l = 0; l < size; ++l) to[l] = from[o + s.local[l]];
      return;
    }
    const uint32_t* source = plan.source[size_t(table)].data();
    const T* scale = plan.scale(table, T());
    for (size_t l = 0; l < size; ++l) {
      const size_t i = o + s.local[l];
      to[l] = scale[i] * from[source[i]];
    }
  }

  void scatter(const Step& s, int64_t table, size_t o, const v* from, v* to) const {
    const size_t size = s.local.size();
    if (table < 0) {
      for (size_t l = 0; l < size; ++l) to[o + s.local[l]] = from[l];
      return;
    }
    const uint32_t* source = plan.source[size_t(table)].data();
    const T* scale = plan.scale(table, T());
    for (size_t l = 0; l < size; ++l) {
      const size_t i = o + s.local[l];
      to[source[i]] = scale[i] * from[l];
    }
  }

  template <class From> void ahead(const Step& s, const From& from, v* to) const {
    const size_t size = s.local.size();
    for (const size_t o : s.outer) {
      gather(s, s.table, o, from, tiles);
      for (const Map& m : s.maps) map(m, plan.transposed, tiles, tiles, size);
      scatter(s, s.after, o, tiles, to);
    }
  }

  // From the gradient by the state after the step to that before it.
  template <class From> void back(const Step& s, const From& from, const v* grad, v* to) {
    const size_t size = s.local.size(), count = s.maps.size();
    for (const size_t o : s.outer) {
      gather(s, s.table, o, from, tiles);
      for (size_t k = 0; k + 1 < count; ++k)
        map(s.maps[k], plan.transposed, tiles + k * size, tiles + (k + 1) * size, size);
      gather(s, s.after, o, grad, slope);
      for (size_t k = count; k--;) {
        const Map& m = s.maps[k];
        const v *before = tiles + k * size, *left = plan.transposed ? before : slope, *right = plan.transposed ? slope : before;
        learn_map(m, left, right, size);
        map(m, !plan.transposed, slope, slope, size);
      }
      scatter(s, s.table, o, slope, to);
    }
  }

  void forward(int64_t group) {
    load_matrices(group);
    for (size_t k = 0; k < plan.steps.size(); ++k) {
      if (k) ahead(plan.steps[k], state(group, k - 1), state(group, k));
      else ahead(plan.steps[k], start(group), state(group, k));
    }
  }

  void backward(int64_t group, const Gradients<T>& grads, v* one, v* other) {
    load_matrices(group);
    std::fill(learned.begin(), learned.end(), v{});
    std::fill(learned_of_pairs.begin(), learned_of_pairs.end(), pair{});
    const v* grad = reinterpret_cast<const v*>(grads.last + size_t(group) * plan.size() * L);
    const Start s = start(group);
    for (size_t k = plan.steps.size(); k--;) {
      if (k) back(plan.steps[k], state(group, k - 1), grad, one);
      else back(plan.steps[k], s, grad, one);
      grad = one;
      std::swap(one, other);
    }
    learn_start(group, s, grad, grads);
    join_pairs();
    learn_matrices(group, grads);
  }

  void learn_start(int64_t group, const Start& s, const v* grad, const Gradients<T>& grads) const {
    const size_t width = s.low.size();
    std::vector<v> low(width, v{});
    for (size_t h = 0; h < s.high.size(); ++h) {
      v total = {};
      for (size_t l = 0; l < width; ++l) {
        const v g = grad[h * width + l];
        total += g * s.low[l], low[l] += g * s.high[h];
      }
      memcpy(grads.high + h * columns() + size_t(group) * L, &total, sizeof total);
    }
    for (size_t l = 0; l < width; ++l) memcpy(grads.low + l * columns() + size_t(group) * L, &low[l], sizeof low[l]);
  }

  void learn_matrices(int64_t group, const Gradients<T>& grads) const {
    for (size_t k = 0; k < learned.size(); ++k) {
      if (plan.batched) memcpy(grads.matrices + k * columns() + size_t(group) * L, &learned[k], sizeof learned[k]);
      else for (int l = 0; l < W; ++l) grads.matrices[k] += learned[k][l];
    }
  }
};

const size_t KEPT_BYTES = size_t(1) << 27;                // scratch memory that a thread keeps for its next call

struct Scratch {
  void* memory = nullptr;
  size_t size = 0;
  ~Scratch() { std::free(memory); }
  void* get(size_t bytes) {
    if (bytes > size || size > KEPT_BYTES) {
      std::free(memory);
      size = (bytes + 4095) / 4096 * 4096;
      memory = std::aligned_alloc(4096, size);
      if (!memory) size = 0;
    }
    return memory;
  }
};

template <class T, int W> int run(const Call<T>& call, const Gradients<T>* grads) {
  typedef typename Lanes<T, W>::v v;
  try {
    const size_t tile = Worker<T, W>::tile_vectors(call.plan), whole = grads ? 2 * call.plan.size() : 0;
    static thread_local Scratch scratch;
    void* const memory = scratch.get((tile + whole) * sizeof(v));
    if (!memory) return 1;
    Worker<T, W> worker(call);
    worker.tiles = static_cast<v*>(memory);
    for (int64_t group = 0; group < call.groups; ++group) {
      v* other = worker.tiles + tile;
      if (!grads) {
        worker.forward(group);
        continue;
      }
      worker.slope = worker.tiles + tile - Worker<T, W>::largest_tile(call.plan);
      worker.backward(group, *grads, other, other + call.plan.size());
    }
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

template <class T> int run(int lanes, const Call<T>& call, const Gradients<T>* grads) {
  constexpr int W = 32 / int(sizeof(T));
  return lanes == W ? run<T, W>(call, grads) : run<T, W / 2>(call, grads);
}

}  // namespace

// Columns are padded to whole vectors of lanes. Gradients by matrices must hold zeros. A result other than 0: out of memory.
extern "C" {
void* qhybrid_density_plan(const int64_t* ints, const uint32_t* sources, const double* scales) {
  try {
    return new Plan(ints, sources, scales);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void qhybrid_density_free(void* plan) { delete static_cast<Plan*>(plan); }

#define FUNCTIONS(T, NAME)                                                                                             \
  int qhybrid_density_values_##NAME(const void* plan, int lanes, int64_t groups, const T* high, const T* low,          \
                                    const T* matrices, T* states, T* last) {                                           \
    return run<T>(lanes, Call<T>{*static_cast<const Plan*>(plan), groups, high, low, matrices, states, last}, nullptr); \
  }                                                                                                                    \
  int qhybrid_density_gradients_##NAME(const void* plan, int lanes, int64_t groups, const T* high, const T* low,       \
                                       const T* matrices, T* states, const T* grad, T* grad_high, T* grad_low,         \
                                       T* grad_matrices) {                                                             \
    const Gradients<T> grads{grad, grad_high, grad_low, grad_matrices};                                                \
    return run<T>(lanes, Call<T>{*static_cast<const Plan*>(plan), groups, high, low, matrices, states, nullptr}, &grads); \
  }
FUNCTIONS(float, float32)
FUNCTIONS(double, float64)
}
