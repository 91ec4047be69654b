// Pair operations and phases on a state: forward, and backward on state and gradient together.
//
// A state is an array of vectors: real and imaginary part of amplitude (or of a block of amplitudes) I at 2 I and
// 2 I + 1. A matrix of SU(2) is the quaternion (w, x, y, z) = w - i (x X + y Y + z Z).
#pragma once
#include "program.hpp"

template <class T> struct Quaternion { vec<T> w, x, y, z; };
template <class T> struct Bloch { vec<T> x, y, z; };      // Im <gradient| X, Y, Z |state>

// Matrices and gradients of the vectors i of a class, and of their partners i ^ far.
template <class T> struct Sides { Quaternion<T> near, far; };
template <class T> struct BlochSides { Bloch<T> near, far; };

// One vector of amplitudes from itself (r, m) and its partner (a, b): q's y and z carry the sign of the bit.
template <Kind K, class T>
INLINE void turn(const Quaternion<T>& q, vec<T>& r, vec<T>& m, vec<T> a, vec<T> b, int sign = 1) {
  const vec<T> r0 = r, m0 = m;
  if constexpr (K == REAL) {
    r = sign > 0 ? q.w * r0 - q.y * a : q.w * r0 + q.y * a;
    m = sign > 0 ? q.w * m0 - q.y * b : q.w * m0 + q.y * b;
  } else if constexpr (K == IMAGINARY) {
    r = q.w * r0 + q.x * b;
    m = q.w * m0 - q.x * a;
  } else if (sign > 0) {
    r = q.w * r0 + q.z * m0 - q.y * a + q.x * b;
    m = q.w * m0 - q.z * r0 - q.y * b - q.x * a;
  } else {
    r = q.w * r0 - q.z * m0 + q.y * a + q.x * b;
    m = q.w * m0 + q.z * r0 + q.y * b - q.x * a;
  }
}

// Partners: without a shuffle they have the opposite bit and the same branch, so that one matrix serves both sides.
template <Kind K, int X, class T>
INLINE void turn_both(const Sides<T>& q, vec<T>& r0, vec<T>& m0, vec<T>& r1, vec<T>& m1) {
  const vec<T> a0 = flip<X>(r0), b0 = flip<X>(m0), a1 = flip<X>(r1), b1 = flip<X>(m1);
  turn<K, T>(q.near, r0, m0, a1, b1);
  if constexpr (X == 0) turn<K, T>(q.near, r1, m1, a0, b0, -1);
  else turn<K, T>(q.far, r1, m1, a0, b0);
}

template <Kind K, int X, class T>
static void pair_forward(vec<T>* state, const Class& c, u64 far, const Sides<T> q) {
  typedef vec<T> v;
  c.each([&](u64 i) {
    v *s = state + 2 * i, *t = state + 2 * (i ^ far);
    v r0 = s[0], m0 = s[1], r1 = t[0], m1 = t[1];
    turn_both<K, X, T>(q, r0, m0, r1, m1);
    s[0] = r0, s[1] = m0, t[0] = r1, t[1] = m1;
  });
}

template <Kind K, int X, class T> static void lane_forward(vec<T>* state, const Class& c, const Quaternion<T> q) {
  typedef vec<T> v;
  c.each([&](u64 i) {
    v *s = state + 2 * i, r = s[0], m = s[1];
    turn<K, T>(q, r, m, flip<X>(r), flip<X>(m));
    s[0] = r, s[1] = m;
  });
}

// Adds what one vector (r, m), its partner (a, b) and the gradient (p, n) give; signs of bits are left to the caller.
template <Kind K, class T>
INLINE void learn(Bloch<T>& g, vec<T> r, vec<T> m, vec<T> a, vec<T> b, vec<T> p, vec<T> n) {
  if constexpr (K != REAL) g.x += p * b - n * a;
  if constexpr (K != IMAGINARY) g.y += p * a + n * b;
  if constexpr (K == GENERAL) g.z += p * m - n * r;
}
template <Kind K, class T>  // the same of a partner with the opposite bit
INLINE void learn_opposite(Bloch<T>& g, vec<T> r, vec<T> m, vec<T> a, vec<T> b, vec<T> p, vec<T> n) {
  if constexpr (K != REAL) g.x += p * b - n * a;
  if constexpr (K != IMAGINARY) g.y -= p * a + n * b;
  if constexpr (K == GENERAL) g.z -= p * m - n * r;
}

// The gradients are read after the gate; q is its inverse.
template <Kind K, bool LEARNS, int X, class T>
static BlochSides<T> pair_backward(vec<T>* state, vec<T>* grad, const Class& c, u64 far, const Sides<T> q) {
  typedef vec<T> v;
  BlochSides<T> g = {};
  c.each([&](u64 i) {
    const u64 j = i ^ far;
    v *s = state + 2 * i, *t = state + 2 * j, *d = grad + 2 * i, *e = grad + 2 * j;
    v r0 = s[0], m0 = s[1], r1 = t[0], m1 = t[1], p0 = d[0], n0 = d[1], p1 = e[0], n1 = e[1];
    if constexpr (LEARNS) {
      learn<K, T>(g.near, r0, m0, flip<X>(r1), flip<X>(m1), p0, n0);
      if constexpr (X == 0) learn_opposite<K, T>(g.near, r1, m1, r0, m0, p1, n1);
      else learn<K, T>(g.far, r1, m1, flip<X>(r0), flip<X>(m0), p1, n1);
    }
    turn_both<K, X, T>(q, r0, m0, r1, m1);
    s[0] = r0, s[1] = m0, t[0] = r1, t[1] = m1;
    turn_both<K, X, T>(q, p0, n0, p1, n1);
    d[0] = p0, d[1] = n0, e[0] = p1, e[1] = n1;
  });
  return g;
}

template <Kind K, bool LEARNS, int X, class T>
static BlochSides<T> lane_backward(vec<T>* state, vec<T>* grad, const Class& c, const Quaternion<T> q) {
  typedef vec<T> v;
  BlochSides<T> g = {};
  c.each([&](u64 i) {
    v *s = state + 2 * i, *d = grad + 2 * i, r = s[0], m = s[1], p = d[0], n = d[1];
    const v a = flip<X>(r), b = flip<X>(m);
    if constexpr (LEARNS) learn<K, T>(g.near, r, m, a, b, p, n);
    turn<K, T>(q, r, m, a, b);
    turn<K, T>(q, p, n, flip<X>(p), flip<X>(n));
    s[0] = r, s[1] = m, d[0] = p, d[1] = n;
  });
  return g;
}

// Calls f.template run<X>() for a shuffle known at run time.
template <int WIDTH, class F> INLINE auto with_shuffle(int shuffle, F f) {
  switch (shuffle) {
    case 1: return f.template run<1 % WIDTH>();
    case 2: return f.template run<2 % WIDTH>();
    case 3: return f.template run<3 % WIDTH>();
    case 4: return f.template run<4 % WIDTH>();
    case 5: return f.template run<5 % WIDTH>();
    case 6: return f.template run<6 % WIDTH>();
    case 7: return f.template run<7 % WIDTH>();
    default: return f.template run<0>();
  }
}

template <Kind K, class T> struct Forward {
  vec<T>* state;
  const Class& c;
  const Geometry& g;
  const Sides<T>& q;
  template <int X> void run() const {
    if (g.far) pair_forward<K, X, T>(state, c, g.far, q);
    else lane_forward<K, X, T>(state, c, q.near);
  }
};

template <Kind K, bool LEARNS, class T> struct Backward {
  vec<T>*state, *grad;
  const Class& c;
  const Geometry& g;
  const Sides<T>& q;
  template <int X> BlochSides<T> run() const {
    if (g.far) return pair_backward<K, LEARNS, X, T>(state, grad, c, g.far, q);
    return lane_backward<K, LEARNS, X, T>(state, grad, c, q.near);
  }
};

template <class T>
static void forward_class(Kind kind, vec<T>* state, const Class& c, const Geometry& g, const Sides<T>& q) {
  constexpr int width = Lanes<T>::width;
  if (kind == REAL) with_shuffle<width>(g.shuffle, Forward<REAL, T>{state, c, g, q});
  else if (kind == IMAGINARY) with_shuffle<width>(g.shuffle, Forward<IMAGINARY, T>{state, c, g, q});
  else with_shuffle<width>(g.shuffle, Forward<GENERAL, T>{state, c, g, q});
}

template <class T>
static BlochSides<T> backward_class(Kind kind, bool learns, vec<T>* state, vec<T>* grad, const Class& c,
                                    const Geometry& g, const Sides<T>& q) {
  constexpr int width = Lanes<T>::width;
  if (!learns) return with_shuffle<width>(g.shuffle, Backward<GENERAL, false, T>{state, grad, c, g, q});
  if (kind == REAL) return with_shuffle<width>(g.shuffle, Backward<REAL, true, T>{state, grad, c, g, q});
  if (kind == IMAGINARY) return with_shuffle<width>(g.shuffle, Backward<IMAGINARY, true, T>{state, grad, c, g, q});
  return with_shuffle<width>(g.shuffle, Backward<GENERAL, true, T>{state, grad, c, g, q});
}
