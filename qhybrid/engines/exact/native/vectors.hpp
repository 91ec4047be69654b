// Vectors of 32 bytes (8 floats or 4 doubles), their shuffles, sine and cosine, and Walsh-Hadamard transforms.
//
// They are written with the vector extensions that GCC and Clang share; on processors without registers of that
// width the compiler takes two or four narrower ones.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

typedef uint64_t u64;

#define INLINE static inline __attribute__((always_inline))

template <class T> struct Lanes;
template <> struct Lanes<float> {
  typedef float v __attribute__((vector_size(32)));
  typedef int32_t i __attribute__((vector_size(32)));
  static constexpr int width = 8, bits = 3;
};
template <> struct Lanes<double> {
  typedef double v __attribute__((vector_size(32)));
  typedef int64_t i __attribute__((vector_size(32)));
  static constexpr int width = 4, bits = 2;
};
template <class T> using vec = typename Lanes<T>::v;

INLINE int parity(u64 value) { return __builtin_parityll(value); }

// The lanes l of the result are the lanes l ^ X of the argument.
template <int X> INLINE vec<float> flip(vec<float> a) {
  if constexpr (X == 0) return a;
  return __builtin_shufflevector(a, a, 0 ^ X, 1 ^ X, 2 ^ X, 3 ^ X, 4 ^ X, 5 ^ X, 6 ^ X, 7 ^ X);
}
template <int X> INLINE vec<double> flip(vec<double> a) {
  if constexpr (X == 0) return a;
  return __builtin_shufflevector(a, a, 0 ^ X, 1 ^ X, 2 ^ X, 3 ^ X);
}

template <class T> INLINE T sum_lanes(vec<T> a) {
  T total = 0;
  for (int l = 0; l < Lanes<T>::width; ++l) total += a[l];
  return total;
}

// +1 in lanes of even parity under a mask, -1 in the others.
template <class T> INLINE vec<T> lane_signs(u64 mask) {
  vec<T> signs;
  for (int l = 0; l < Lanes<T>::width; ++l) signs[l] = parity(mask & u64(l)) ? T(-1) : T(1);
  return signs;
}

// Sine and cosine: reduction by multiples of pi/2 in double precision (fdlibm's parts of pi/2), then the minimax
// polynomials of Cephes; arguments beyond 1e5 go to the standard library.
typedef double d4 __attribute__((vector_size(32)));
typedef int64_t l4 __attribute__((vector_size(32)));

INLINE void reduce(d4 x, d4& rest, l4& quadrant) {
  const double shift = 6755399441055744.0;
  d4 moved = x * 0.63661977236758134308 + shift;
  l4 bits;
  memcpy(&bits, &moved, sizeof bits);
  quadrant = bits & 3;
  d4 k = moved - shift;
  rest = ((x - k * 1.57079632673412561417e+00) - k * 6.07710050630396597660e-11) - k * 2.02226624871116645580e-21;
}

INLINE void polynomials(d4 x, d4& sine, d4& cosine) {
  d4 z = x * x;
  sine = x + x * z * (((((1.58962301576546568060e-10 * z - 2.50507477628578072866e-8) * z + 2.75573136213857245213e-6) * z
      - 1.98412698295895385996e-4) * z + 8.33333333332211858878e-3) * z - 1.66666666666666307295e-1);
  cosine = 1.0 - 0.5 * z + z * z * (((((-1.13585365213876817300e-11 * z + 2.08757008419747316778e-9) * z
      - 2.75573141792967388112e-7) * z + 2.48015872888517045348e-5) * z - 1.38888888888730564116e-3) * z
      + 4.16666666666665929218e-2);
}

INLINE void polynomials(vec<float> x, vec<float>& sine, vec<float>& cosine) {
  vec<float> z = x * x;
  sine = x + x * z * ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f);
  cosine = 1.f - 0.5f * z + z * z * ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f);
}

template <class T> INLINE void quarter_turns(typename Lanes<T>::i quadrant, vec<T>& sine, vec<T>& cosine) {
  typename Lanes<T>::i odd = (quadrant & 1) != 0, minus_sine = (quadrant & 2) != 0,
                       minus_cosine = ((quadrant + 1) & 2) != 0;
  vec<T> a = odd ? cosine : sine, b = odd ? sine : cosine;
  sine = minus_sine ? -a : a;
  cosine = minus_cosine ? -b : b;
}

template <class T> INLINE bool far_away(vec<T> x) {
  bool far = false;
  for (int l = 0; l < Lanes<T>::width; ++l) far |= !(std::fabs(x[l]) < T(1e5));
  return far;
}

template <class T> INLINE void library_sincos(vec<T> x, vec<T>& sine, vec<T>& cosine) {
  for (int l = 0; l < Lanes<T>::width; ++l) {
    sine[l] = std::sin(x[l]);
    cosine[l] = std::cos(x[l]);
  }
}

INLINE void sincos_lanes(vec<double> x, vec<double>& sine, vec<double>& cosine) {
  if (far_away<double>(x)) return library_sincos<double>(x, sine, cosine);
  d4 rest;
  l4 quadrant;
  reduce(x, rest, quadrant);
  polynomials(rest, sine, cosine);
  quarter_turns<double>(quadrant, sine, cosine);
}

INLINE void sincos_lanes(vec<float> x, vec<float>& sine, vec<float>& cosine) {
  if (far_away<float>(x)) return library_sincos<float>(x, sine, cosine);
  vec<float> rest;
  Lanes<float>::i quadrant;
  for (int half = 0; half < 2; ++half) {
    d4 part, reduced;
    l4 turns;
    for (int l = 0; l < 4; ++l) part[l] = x[4 * half + l];
    reduce(part, reduced, turns);
    for (int l = 0; l < 4; ++l) rest[4 * half + l] = float(reduced[l]), quadrant[4 * half + l] = int32_t(turns[l]);
  }
  polynomials(rest, sine, cosine);
  quarter_turns<float>(quadrant, sine, cosine);
}

// Walsh-Hadamard transform in place: out[j] = sum_i (-1)^{popcount(i & j)} in[i]; two bits a pass.
template <class T> static void transform(vec<T>* a, int bits) {
  typedef vec<T> v;
  const size_t size = size_t(1) << bits;
  int bit = 0;
  for (; bit + 1 < bits; bit += 2) {
    const size_t s = size_t(1) << bit;
    for (size_t h = 0; h < size; h += 4 * s)
      for (size_t i = h; i < h + s; ++i) {
        v p = a[i] + a[i + s], q = a[i] - a[i + s], r = a[i + 2 * s] + a[i + 3 * s], t = a[i + 2 * s] - a[i + 3 * s];
        a[i] = p + r, a[i + s] = q + t, a[i + 2 * s] = p - r, a[i + 3 * s] = q - t;
      }
  }
  if (bit < bits) {
    const size_t s = size_t(1) << bit;
    for (size_t i = 0; i < s; ++i) {
      v p = a[i], q = a[i + s];
      a[i] = p + q, a[i + s] = p - q;
    }
  }
}

template <class T> static void transform_lanes(vec<T>* a, size_t size) {
  typedef vec<T> v;
  const v one = lane_signs<T>(1), two = lane_signs<T>(2), four = lane_signs<T>(4);
  for (size_t i = 0; i < size; ++i) {
    v x = a[i];
    x = flip<1>(x) + one * x;
    x = flip<2>(x) + two * x;
    if constexpr (Lanes<T>::bits == 3) x = flip<4>(x) + four * x;
    a[i] = x;
  }
}
