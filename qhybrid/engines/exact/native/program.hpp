// The program of statevectors as the Python side writes it (rotations.py), and where its operations lie in memory.
#pragma once
#include <algorithm>
#include <vector>

#include "expressions.hpp"
#include "vectors.hpp"

struct Factor { int axis, angle; int sign[2]; };          // exp(-i sign t P / 2), P = X, Y, Z for axis 0, 1, 2
struct Term { int observable; double coefficient; };

struct Angle {                                            // offset + sum a x + sum b w
  double offset;
  std::vector<int> input, weight;
  std::vector<double> input_factor, weight_factor;
  bool batched() const { return !input.empty(); }
  bool constant() const { return input.empty() && weight.empty(); }
};

// All i with given parities under some masks, as an offset and a basis: offset ^ any combination of the basis.
struct Class {
  u64 offset = 0;
  std::vector<u64> basis;
  int bit = 0, branch = 0;
  template <class F> __attribute__((always_inline)) void each(F f) const {
    const u64 count = u64(1) << basis.size();
    const u64* vectors = basis.data();
    u64 i = offset;
    for (u64 h = 1;; ++h) {
      f(i);
      if (h == count) return;
      i ^= vectors[__builtin_ctzll(h)];
    }
  }
};

// How a pair operation meets vectors whose lanes are the lowest `bits` bits of an amplitude's index (0: samples).
struct Geometry {
  u64 far = 0;           // partner vector is I ^ far
  int shuffle = 0;       // and in it lane l ^ shuffle
  int bit_lanes = 0, branch_lanes = 0;
  bool opposite = false, crossed = false;  // whether a partner vector has the opposite bit, the other branch
  std::vector<Class> classes;
};

enum Kind { GENERAL, REAL, IMAGINARY };                   // all axes; Y alone; X alone

struct Pair {                                             // one matrix (or one a branch) on the pairs i, i ^ flips
  u64 flips, signs, select;                               // bit = parity(i & signs), branch = parity(i & select)
  std::vector<Factor> factors;
  Kind kind = GENERAL;
  bool batched = false, learns = false;
  int place = 0;
  Geometry geometry[4];
};
struct Phase { std::vector<u64> masks; std::vector<int> angle, sign; bool learns = false; };
struct Op { bool pair; int index; };
struct String { u64 mask; int num_y; std::vector<Term> terms; };
struct Group { u64 flips; std::vector<String> strings; };

static bool solve(std::vector<u64> masks, std::vector<int> sides, int bits, Class& found) {
  std::vector<u64> pivots;
  std::vector<u64> rows;
  std::vector<int> values;
  for (size_t k = 0; k < masks.size(); ++k) {
    u64 row = masks[k];
    int side = sides[k];
    for (size_t j = 0; j < rows.size(); ++j)
      if (row & pivots[j]) row ^= rows[j], side ^= values[j];
    if (!row) {
      if (side) return false;
      continue;
    }
    const u64 pivot = u64(1) << (63 - __builtin_clzll(row));
    for (size_t j = 0; j < rows.size(); ++j)
      if (rows[j] & pivot) rows[j] ^= row, values[j] ^= side;
    rows.push_back(row), values.push_back(side), pivots.push_back(pivot);
  }
  u64 taken = 0;
  for (size_t j = 0; j < rows.size(); ++j) taken |= pivots[j], found.offset |= values[j] ? pivots[j] : 0;
  for (int b = 0; b < bits; ++b) {
    u64 vector = u64(1) << b;
    if (vector & taken) continue;
    for (size_t j = 0; j < rows.size(); ++j)
      if (rows[j] & (u64(1) << b)) vector |= pivots[j];
    found.basis.push_back(vector);
  }
  return true;
}

static Geometry place(const Pair& pair, int num_qubits, int lane_bits) {
  Geometry g;
  const u64 lanes = (u64(1) << lane_bits) - 1;
  g.far = pair.flips >> lane_bits;
  g.shuffle = int(pair.flips & lanes), g.bit_lanes = int(pair.signs & lanes), g.branch_lanes = int(pair.select & lanes);
  const u64 signs = pair.signs >> lane_bits, select = pair.select >> lane_bits;
  g.opposite = parity(g.far & signs), g.crossed = parity(g.far & select);
  for (int branch = 0; branch < 2; ++branch)
    for (int bit = 0; bit < (g.opposite ? 1 : 2); ++bit) {
      Class c;
      c.bit = bit, c.branch = branch;
      std::vector<u64> masks = {signs, select};
      std::vector<int> sides = {bit, branch};
      if (g.far && !g.opposite) masks.push_back(u64(1) << (63 - __builtin_clzll(g.far))), sides.push_back(0);
      if (solve(masks, sides, num_qubits - lane_bits, c)) g.classes.push_back(c);
    }
  return g;
}

struct Plan {
  int num_qubits, num_inputs, num_weights, num_observables;
  std::vector<Angle> angles;
  std::vector<size_t> batched;                            // the angles that differ from sample to sample
  std::vector<size_t> by_task;                            // those, and others whose matrices differ
  std::vector<Op> ops;
  std::vector<Pair> pairs;
  std::vector<Phase> phases;
  std::vector<Group> groups;
  std::vector<double> offsets;

  Plan(const int64_t*& ints, const double*& reals) {
    num_qubits = int(*ints++), num_inputs = int(*ints++), num_weights = int(*ints++), num_observables = int(*ints++);
    for (int64_t left = *ints++; left--;) {
      Angle a;
      a.offset = *reals++;
      for (int64_t k = *ints++; k--;) a.input.push_back(int(*ints++)), a.input_factor.push_back(*reals++);
      for (int64_t k = *ints++; k--;) a.weight.push_back(int(*ints++)), a.weight_factor.push_back(*reals++);
      if (a.batched()) batched.push_back(angles.size());
      angles.push_back(a);
    }
    for (int64_t left = *ints++; left--;) *ints++ ? read_pair(ints) : read_phase(ints);
    std::vector<bool> in_batched(angles.size());
    for (const Pair& p : pairs)
      for (const Factor& f : p.factors)
        if (p.batched) in_batched[size_t(f.angle)] = true;
    for (size_t k = 0; k < angles.size(); ++k)
      if (in_batched[k] || angles[k].batched()) by_task.push_back(k);
    for (int64_t left = *ints++; left--;) {
      Group g;
      g.flips = u64(*ints++);
      for (int64_t k = *ints++; k--;) {
        String s;
        s.mask = u64(*ints++), s.num_y = int(*ints++);
        for (int64_t t = *ints++; t--;) {
          const int observable = int(*ints++);
          s.terms.push_back({observable, *reals++});
        }
        g.strings.push_back(s);
      }
      groups.push_back(g);
    }
    for (int k = 0; k < num_observables; ++k) offsets.push_back(*reals++);
  }

 private:
  void read_pair(const int64_t*& ints) {
    Pair p;
    p.flips = u64(*ints++), p.signs = u64(*ints++), p.select = u64(*ints++);
    bool axes[3] = {false, false, false};
    for (int64_t k = *ints++; k--;) {
      Factor f;
      f.axis = int(*ints++), f.angle = int(*ints++), f.sign[0] = int(*ints++), f.sign[1] = int(*ints++);
      axes[f.axis] = true;
      p.batched |= angles[f.angle].batched();
      p.learns |= !angles[f.angle].constant();
      p.factors.push_back(f);
    }
    p.kind = axes[2] || (axes[0] && axes[1]) ? GENERAL : axes[1] ? REAL : IMAGINARY;
    p.place = int(pairs.size());
    for (int bits : {0, 2, 3})
      if (num_qubits >= bits) p.geometry[bits] = ::place(p, num_qubits, bits);
    ops.push_back({true, p.place});
    pairs.push_back(p);
  }

  void read_phase(const int64_t*& ints) {
    Phase p;
    for (int64_t k = *ints++; k--;) {
      p.masks.push_back(u64(*ints++)), p.angle.push_back(int(*ints++)), p.sign.push_back(int(*ints++));
      p.learns |= !angles[p.angle.back()].constant();
    }
    ops.push_back({false, int(phases.size())});
    phases.push_back(p);
  }
};

// What a layer calls: statevectors whose values are added, and the angles that they share.
struct Step {
  int num_inputs, num_weights, num_observables;
  Expressions expressions;
  std::vector<Plan> runs;

  Step(const int64_t* ints, const double* reals) {
    num_inputs = int(*ints++), num_weights = int(*ints++), num_observables = int(*ints++);
    expressions.read(ints, reals);
    for (int64_t left = *ints++; left--;) runs.emplace_back(ints, reals);
  }
};
