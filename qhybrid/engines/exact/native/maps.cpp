// The 4 x 4 transfer matrices of many maps of one qubit, and products of one-qubit vectors; with their gradients.
//
// A map is a constant matrix, then rotations by angles, each with a constant matrix behind it. Three groups of maps are
// computed at once: `first` ones act on the vector (1, 0, 0, 1) of |0>, of `between` ones rows X, Y, Z are written (they
// preserve the trace), of `last` ones the whole matrix. Columns are samples.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace {

struct Matrix {
  float narrow[16];
  double wide[16];
  explicit Matrix(const double* from) {
    for (int k = 0; k < 16; ++k) wide[k] = from[k], narrow[k] = float(from[k]);
  }
  const float* get(float) const { return narrow; }
  const double* get(double) const { return wide; }
};

struct Turn {
  int a, b;                                               // a' = cos a - sin b, b' = sin a + cos b
  int64_t angle;
  bool batched, plain;                                    // plain: the matrix behind is the identity
  Matrix behind;
};

struct Map {
  Matrix before;
  std::vector<Turn> turns;
  bool batched = false;
  explicit Map(const double* from) : before(from) {}
};

const int GROUPS = 3, BETWEEN = 1;
const int PLANES[3][2] = {{2, 3}, {3, 1}, {1, 2}};        // of rotations about X, Y, Z

struct Plan {
  std::vector<Map> groups[GROUPS];
  bool batched[GROUPS];                                   // whether a group is written column by column
  size_t depth = 0;

  Plan(const int64_t* ints, const double* numbers) {
    for (int g = 0; g < GROUPS; ++g) {
      batched[g] = *ints++;
      for (int64_t left = *ints++; left--;) {
        Map map(numbers);
        numbers += 16;
        for (int64_t turns = *ints++; turns--; ints += 4, numbers += 16) {
          const int* plane = PLANES[ints[0]];
          map.turns.push_back({plane[0], plane[1], ints[1], ints[2] != 0, ints[3] != 0, Matrix(numbers)});
          map.batched |= ints[2] != 0;
        }
        depth = std::max(depth, map.turns.size());
        groups[g].push_back(map);
      }
    }
  }
};

template <class T> struct Angles {                        // cosines and sines: (F), and (N, columns)
  int64_t columns;
  const T *free_cos, *free_sin, *cos, *sin;
  T c(const Turn& t, int64_t k) const { return t.batched ? cos[t.angle * columns + k] : free_cos[t.angle]; }
  T s(const Turn& t, int64_t k) const { return t.batched ? sin[t.angle * columns + k] : free_sin[t.angle]; }
};

template <class T, int K> void start(const Map& map, T* m) {
  const T* before = map.before.get(T());
  for (int r = 0; r < 4; ++r)
    for (int k = 0; k < K; ++k) m[r * K + k] = K == 1 ? before[4 * r] + before[4 * r + 3] : before[4 * r + k];
}

template <class T, int K> void rotate(const Turn& t, T c, T s, T* m) {
  for (int k = 0; k < K; ++k) {
    const T a = m[t.a * K + k], b = m[t.b * K + k];
    m[t.a * K + k] = c * a - s * b, m[t.b * K + k] = s * a + c * b;
  }
}

template <class T, int K> void multiply(const Turn& t, bool transposed, T* m) {
  if (t.plain) return;
  const T* matrix = t.behind.get(T());
  T from[4 * K];
  std::copy(m, m + 4 * K, from);
  for (int r = 0; r < 4; ++r)
    for (int k = 0; k < K; ++k) {
      T sum = 0;
      for (int j = 0; j < 4; ++j) sum += matrix[transposed ? 4 * j + r : 4 * r + j] * from[j * K + k];
      m[r * K + k] = sum;
    }
}

template <class T, int K> void values(const Plan& plan, int group, const Angles<T>& angles, T* out) {
  const int above = group == BETWEEN ? K : 0, entries = 4 * K - above;
  const int64_t columns = plan.batched[group] ? angles.columns : 1;
  for (const Map& map : plan.groups[group]) {
    for (int64_t c = 0; c < (map.batched ? columns : 1); ++c) {
      T m[4 * K];
      start<T, K>(map, m);
      for (const Turn& t : map.turns) {
        rotate<T, K>(t, angles.c(t, c), angles.s(t, c), m);
        multiply<T, K>(t, false, m);
      }
      for (int e = 0; e < entries; ++e) out[e * columns + c] = m[above + e];
    }
    if (!map.batched)
      for (int e = 0; e < entries; ++e) std::fill(out + e * columns, out + (e + 1) * columns, out[e * columns]);
    out += entries * columns;
  }
}

template <class T, int K>
void gradients(const Plan& plan, int group, const Angles<T>& angles, const T* grad, T* by_free, T* by_batched) {
  const int above = group == BETWEEN ? K : 0, entries = 4 * K - above;
  const int64_t columns = plan.batched[group] ? angles.columns : 1;
  std::vector<T> turned(plan.depth * 4 * K);              // behind every rotation
  for (const Map& map : plan.groups[group]) {
    for (int64_t c = 0; c < (map.batched ? columns : 1); ++c) {
      T m[4 * K], g[4 * K] = {};
      for (int e = 0; e < entries; ++e) {
        const T* row = grad + e * columns;
        if (map.batched) g[above + e] = row[c];
        else for (int64_t k = 0; k < columns; ++k) g[above + e] += row[k];
      }
      start<T, K>(map, m);
      T* kept = turned.data();
      for (const Turn& t : map.turns) {
        rotate<T, K>(t, angles.c(t, c), angles.s(t, c), m);
        std::copy(m, m + 4 * K, kept);
        kept += 4 * K;
        multiply<T, K>(t, false, m);
      }
      for (size_t n = map.turns.size(); n--;) {
        const Turn& t = map.turns[n];
        multiply<T, K>(t, true, g);
        kept -= 4 * K;
        T slope = 0;
        for (int k = 0; k < K; ++k) slope += g[t.b * K + k] * kept[t.a * K + k] - g[t.a * K + k] * kept[t.b * K + k];
        (t.batched ? by_batched[t.angle * angles.columns + c] : by_free[t.angle]) += slope;
        rotate<T, K>(t, angles.c(t, c), -angles.s(t, c), g);
      }
    }
    grad += entries * columns;
  }
}

// Products of vectors (qubits, 4, C): the strings of qubits 0 to k, one size after another.
template <class T> void grow(const T* vector, const T* lower, size_t size, size_t columns, T* out) {
  for (size_t a = 0; a < 4; ++a)
    for (size_t r = 0; r < size; ++r)
      for (size_t c = 0; c < columns; ++c)
        out[(a * size + r) * columns + c] = vector[a * columns + c] * lower[r * columns + c];
}

template <class T> void product(const T* vectors, int qubits, size_t columns, T* out) {
  std::vector<T> lower(vectors, vectors + 4 * columns), upper;
  size_t size = 4;
  for (int q = 1; q < qubits; ++q, size *= 4) {
    const T* vector = vectors + size_t(q) * 4 * columns;
    if (q + 1 == qubits) return grow(vector, lower.data(), size, columns, out);
    upper.resize(4 * size * columns);
    grow(vector, lower.data(), size, columns, upper.data());
    lower.swap(upper);
  }
  std::copy(lower.begin(), lower.end(), out);
}

template <class T> void product_gradients(const T* vectors, int qubits, size_t columns, const T* grad, T* by_vectors) {
  std::vector<std::vector<T>> lower(1, std::vector<T>(vectors, vectors + 4 * columns));
  size_t size = 4;
  for (int q = 1; q + 1 < qubits; ++q, size *= 4) {
    lower.emplace_back(4 * size * columns);
    grow(vectors + size_t(q) * 4 * columns, lower[size_t(q) - 1].data(), size, columns, lower.back().data());
  }
  std::vector<T> slope, next;
  for (int q = qubits - 1; q > 0; --q, size /= 4) {
    const T *vector = vectors + size_t(q) * 4 * columns, *rest = lower[size_t(q) - 1].data();
    const T* from = slope.empty() ? grad : slope.data();
    T* by_vector = by_vectors + size_t(q) * 4 * columns;
    std::fill(by_vector, by_vector + 4 * columns, T(0));
    next.assign(size * columns, T(0));
    for (size_t a = 0; a < 4; ++a)
      for (size_t r = 0; r < size; ++r)
        for (size_t c = 0; c < columns; ++c) {
          const T g = from[(a * size + r) * columns + c];
          by_vector[a * columns + c] += g * rest[r * columns + c];
          next[r * columns + c] += g * vector[a * columns + c];
        }
    slope.swap(next);
  }
  const T* from = slope.empty() ? grad : slope.data();
  std::copy(from, from + 4 * columns, by_vectors);
}

}  // namespace

// A result other than 0: out of memory. Gradients by angles must hold zeros.
extern "C" {
void* qhybrid_maps_plan(const int64_t* ints, const double* numbers) {
  try {
    return new Plan(ints, numbers);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void qhybrid_maps_free(void* plan) { delete static_cast<Plan*>(plan); }

#define FUNCTIONS(T, NAME)                                                                                             \
  int qhybrid_maps_values_##NAME(const void* place, int64_t columns, const T* free_cos, const T* free_sin,             \
                                 const T* cos, const T* sin, T* first, T* between, T* last) {                          \
    const Plan& plan = *static_cast<const Plan*>(place);                                                               \
    const Angles<T> angles{columns, free_cos, free_sin, cos, sin};                                                     \
    values<T, 1>(plan, 0, angles, first);                                                                              \
    values<T, 4>(plan, 1, angles, between);                                                                            \
    values<T, 4>(plan, 2, angles, last);                                                                               \
    return 0;                                                                                                          \
  }                                                                                                                    \
  int qhybrid_maps_gradients_##NAME(const void* place, int64_t columns, const T* free_cos, const T* free_sin,          \
                                    const T* cos, const T* sin, const T* first, const T* between, const T* last,       \
                                    T* by_free, T* by_batched) {                                                       \
    try {                                                                                                              \
      const Plan& plan = *static_cast<const Plan*>(place);                                                             \
      const Angles<T> angles{columns, free_cos, free_sin, cos, sin};                                                   \
      gradients<T, 1>(plan, 0, angles, first, by_free, by_batched);                                                    \
      gradients<T, 4>(plan, 1, angles, between, by_free, by_batched);                                                  \
      gradients<T, 4>(plan, 2, angles, last, by_free, by_batched);                                                     \
      return 0;                                                                                                        \
    } catch (const std::bad_alloc&) {                                                                                  \
      return 1;                                                                                                        \
    }                                                                                                                  \
  }                                                                                                                    \
  int qhybrid_product_values_##NAME(const T* vectors, int qubits, int low, int64_t columns, T* upper, T* lower) {      \
    try {                                                                                                              \
      product(vectors, low, size_t(columns), lower);                                                                   \
      product(vectors + size_t(low) * 4 * size_t(columns), qubits - low, size_t(columns), upper);                      \
      return 0;                                                                                                        \
    } catch (const std::bad_alloc&) {                                                                                  \
      return 1;                                                                                                        \
    }                                                                                                                  \
  }                                                                                                                    \
  int qhybrid_product_gradients_##NAME(const T* vectors, int qubits, int low, int64_t columns, const T* by_upper,      \
                                       const T* by_lower, T* by_vectors) {                                             \
    try {                                                                                                              \
      const size_t half = size_t(low) * 4 * size_t(columns);                                                           \
      product_gradients(vectors, low, size_t(columns), by_lower, by_vectors);                                          \
      product_gradients(vectors + half, qubits - low, size_t(columns), by_upper, by_vectors + half);                   \
      return 0;                                                                                                        \
    } catch (const std::bad_alloc&) {                                                                                  \
      return 1;                                                                                                        \
    }                                                                                                                  \
  }
FUNCTIONS(float, float32)
FUNCTIONS(double, float64)
}
