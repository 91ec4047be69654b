// Angles that are not affine: values of their expressions for all samples, and gradients back to the parameters.
//
// Equal parts of expressions are one node. Nodes without inputs are computed once a call; the others chunk by chunk,
// so that what is between stays in the first cache.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

enum NodeKind { NUMBER, INPUT, WEIGHT, ADD, MUL, POW, POWER, SIN, COS, TAN, ASIN, ACOS, ATAN, EXP, LOG, ABS, SIGN };

struct ExpressionNode {
  int kind = NUMBER, first = 0, second = 0;               // operands, or the parameter's index
  double number = 0;                                      // its value, or the exponent of POWER
  bool batched = false, varies = false;                   // depends on inputs; on any parameter
};

// A table of numbers, a row a node; rows of nodes without inputs hold the same number in every column.
template <class T> struct Columns {
  std::vector<T> numbers;
  int64_t width = 0;
  void resize(size_t rows, int64_t columns) { width = columns, numbers.assign(rows * size_t(columns), T(0)); }
  T* row(int index) { return numbers.data() + size_t(index) * size_t(width); }
};

struct Expressions {
  std::vector<ExpressionNode> nodes;                      // operands come before what uses them
  std::vector<int> batched, free;                         // the nodes that are angles
  static constexpr int64_t CHUNK = 64;

  void read(const int64_t*& ints, const double*& reals) {
    for (int64_t left = *ints++; left--;) {
      ExpressionNode n;
      n.kind = int(*ints++), n.first = int(*ints++), n.second = int(*ints++), n.number = *reals++;
      n.batched = n.kind == INPUT, n.varies = n.kind == INPUT || n.kind == WEIGHT;
      if (n.kind >= ADD) {
        n.batched = nodes[size_t(n.first)].batched, n.varies = nodes[size_t(n.first)].varies;
        if (n.kind <= POW) n.batched |= nodes[size_t(n.second)].batched, n.varies |= nodes[size_t(n.second)].varies;
      }
      nodes.push_back(n);
    }
    for (std::vector<int>* some : {&batched, &free})
      for (int64_t left = *ints++; left--;) some->push_back(int(*ints++));
  }

  // Values behind the parameters themselves: row K of `inputs` (n_in + K, B), place L of `weights` (n_w + L).
  template <class T>
  void evaluate(T* inputs, T* weights, int64_t batch, int num_inputs, int num_weights) const {
    if (nodes.empty()) return;
    Columns<T> values;
    values.resize(nodes.size(), std::max<int64_t>(1, std::min(CHUNK, batch)));
    pass(values, false, values.width, inputs, weights, batch, 0);
    for (size_t l = 0; l < free.size(); ++l) weights[size_t(num_weights) + l] = values.row(free[l])[0];
    for (int64_t start = 0; start < batch && !batched.empty(); start += CHUNK) {
      const int64_t count = std::min(CHUNK, batch - start);
      pass(values, true, count, inputs, weights, batch, start);
      for (size_t k = 0; k < batched.size(); ++k)
        std::copy_n(values.row(batched[k]), count, inputs + (size_t(num_inputs) + k) * size_t(batch) + size_t(start));
    }
  }

  // Adds the gradients of the rows and places above to those of the parameters.
  template <class T>
  void pull_back(T* inputs, T* weights, int64_t batch, int num_inputs, int num_weights, T* grad_inputs,
                 T* grad_weights) const {
    if (nodes.empty()) return;
    Columns<T> values, grads;
    values.resize(nodes.size(), std::max<int64_t>(1, std::min(CHUNK, batch)));
    grads.resize(nodes.size(), values.width);
    pass(values, false, values.width, inputs, weights, batch, 0);
    for (int64_t start = 0; start < batch && !batched.empty(); start += CHUNK) {
      const int64_t count = std::min(CHUNK, batch - start);
      pass(values, true, count, inputs, weights, batch, start);
      for (size_t k = 0; k < nodes.size(); ++k)
        if (nodes[k].batched) std::fill_n(grads.row(int(k)), count, T(0));
      for (size_t k = 0; k < batched.size(); ++k) {
        const T* above = grad_inputs + (size_t(num_inputs) + k) * size_t(batch) + size_t(start);
        T* own = grads.row(batched[k]);
        for (int64_t c = 0; c < count; ++c) own[c] += above[c];
      }
      back(values, grads, true, count, grad_inputs, grad_weights, batch, start);
    }
    // What all samples gave to nodes without inputs, in the first column.
    for (size_t k = 0; k < nodes.size(); ++k) {
      if (nodes[k].batched) continue;
      T* own = grads.row(int(k));
      for (int64_t c = 1; c < grads.width; ++c) own[0] += own[c];
    }
    for (size_t l = 0; l < free.size(); ++l) grads.row(free[l])[0] += grad_weights[size_t(num_weights) + l];
    back(values, grads, false, 1, grad_inputs, grad_weights, batch, 0);
  }

 private:
  template <class F> static void each(int64_t count, F f) {
    for (int64_t c = 0; c < count; ++c) f(c);
  }

  template <class T>
  void pass(Columns<T>& values, bool is_batched, int64_t count, const T* inputs, const T* weights, int64_t batch,
            int64_t start) const {
    for (size_t k = 0; k < nodes.size(); ++k) {
      const ExpressionNode& n = nodes[k];
      if (n.batched != is_batched) continue;
      T* to = values.row(int(k));
      if (n.kind == NUMBER) std::fill_n(to, count, T(n.number));
      else if (n.kind == WEIGHT) std::fill_n(to, count, weights[n.first]);
      else if (n.kind == INPUT) std::copy_n(inputs + size_t(n.first) * size_t(batch) + size_t(start), count, to);
      else function(n, values.row(n.first), values.row(n.kind <= POW ? n.second : n.first), to, count);
    }
  }

  template <class T> static void function(const ExpressionNode& n, const T* a, const T* b, T* to, int64_t count) {
    const T p = T(n.number);
    switch (n.kind) {
      case ADD: return each(count, [=](int64_t c) { to[c] = a[c] + b[c]; });
      case MUL: return each(count, [=](int64_t c) { to[c] = a[c] * b[c]; });
      case POW: return each(count, [=](int64_t c) { to[c] = std::pow(a[c], b[c]); });
      case POWER:
        if (n.number == 2) return each(count, [=](int64_t c) { to[c] = a[c] * a[c]; });
        if (n.number == -1) return each(count, [=](int64_t c) { to[c] = T(1) / a[c]; });
        return each(count, [=](int64_t c) { to[c] = std::pow(a[c], p); });
      case SIN: return each(count, [=](int64_t c) { to[c] = std::sin(a[c]); });
      case COS: return each(count, [=](int64_t c) { to[c] = std::cos(a[c]); });
      case TAN: return each(count, [=](int64_t c) { to[c] = std::tan(a[c]); });
      case ASIN: return each(count, [=](int64_t c) { to[c] = std::asin(a[c]); });
      case ACOS: return each(count, [=](int64_t c) { to[c] = std::acos(a[c]); });
      case ATAN: return each(count, [=](int64_t c) { to[c] = std::atan(a[c]); });
      case EXP: return each(count, [=](int64_t c) { to[c] = std::exp(a[c]); });
      case LOG: return each(count, [=](int64_t c) { to[c] = std::log(a[c]); });
      case ABS: return each(count, [=](int64_t c) { to[c] = std::fabs(a[c]); });
      default: return each(count, [=](int64_t c) { to[c] = sign(a[c]); });
    }
  }

  template <class T> static T sign(T x) { return x > 0 ? T(1) : x < 0 ? T(-1) : x; }

  template <class T>
  void back(Columns<T>& values, Columns<T>& grads, bool is_batched, int64_t count, T* grad_inputs, T* grad_weights,
            int64_t batch, int64_t start) const {
    for (size_t k = nodes.size(); k--;) {
      const ExpressionNode& n = nodes[k];
      if (n.batched != is_batched || !n.varies) continue;
      const T* g = grads.row(int(k));
      if (n.kind == INPUT) {
        T* to = grad_inputs + size_t(n.first) * size_t(batch) + size_t(start);
        each(count, [=](int64_t c) { to[c] += g[c]; });
      } else if (n.kind == WEIGHT) {
        grad_weights[n.first] += g[0];
      } else {
        if (nodes[size_t(n.first)].varies)
          slope(n, g, values.row(int(k)), values.row(n.first), values.row(n.second), grads.row(n.first), count);
        if (n.kind <= POW && nodes[size_t(n.second)].varies)
          second_slope(n, g, values.row(int(k)), values.row(n.first), values.row(n.second), grads.row(n.second), count);
      }
    }
  }

  // The derivatives of torch, also where they are a convention (|0|, x^0).
  template <class T>
  static void slope(const ExpressionNode& n, const T* g, const T* y, const T* a, const T* b, T* to, int64_t count) {
    const T p = T(n.number);
    switch (n.kind) {
      case ADD: return each(count, [=](int64_t c) { to[c] += g[c]; });
      case MUL: return each(count, [=](int64_t c) { to[c] += g[c] * b[c]; });
      case POW:
        return each(count, [=](int64_t c) { to[c] += b[c] == 0 ? T(0) : g[c] * (b[c] * std::pow(a[c], b[c] - 1)); });
      case POWER:
        if (n.number == 0) return;
        if (n.number == 2) return each(count, [=](int64_t c) { to[c] += g[c] * (2 * a[c]); });
        return each(count, [=](int64_t c) { to[c] += g[c] * (p * std::pow(a[c], p - 1)); });
      case SIN: return each(count, [=](int64_t c) { to[c] += g[c] * std::cos(a[c]); });
      case COS: return each(count, [=](int64_t c) { to[c] -= g[c] * std::sin(a[c]); });
      case TAN: return each(count, [=](int64_t c) { to[c] += g[c] * (1 + y[c] * y[c]); });
      case ASIN: return each(count, [=](int64_t c) { to[c] += g[c] / std::sqrt(1 - a[c] * a[c]); });
      case ACOS: return each(count, [=](int64_t c) { to[c] -= g[c] / std::sqrt(1 - a[c] * a[c]); });
      case ATAN: return each(count, [=](int64_t c) { to[c] += g[c] / (1 + a[c] * a[c]); });
      case EXP: return each(count, [=](int64_t c) { to[c] += g[c] * y[c]; });
      case LOG: return each(count, [=](int64_t c) { to[c] += g[c] / a[c]; });
      case ABS: return each(count, [=](int64_t c) { to[c] += g[c] * sign(a[c]); });
      default: return;                                    // a step: no slope
    }
  }

  template <class T>
  static void second_slope(const ExpressionNode& n, const T* g, const T* y, const T* a, const T* b, T* to,
                           int64_t count) {
    if (n.kind == ADD) return each(count, [=](int64_t c) { to[c] += g[c]; });
    if (n.kind == MUL) return each(count, [=](int64_t c) { to[c] += g[c] * a[c]; });
    each(count, [=](int64_t c) { to[c] += a[c] == 0 && b[c] >= 0 ? T(0) : g[c] * (y[c] * std::log(a[c])); });
  }
};
