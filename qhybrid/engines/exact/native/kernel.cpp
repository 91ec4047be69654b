// Batched adjoint statevectors: expectation values, and their vector-Jacobian product with inputs and weights.
//
// A task is either as many samples as a vector has lanes, or one sample whose lowest index bits are the lanes. The
// backward pass steps the state and its gradient back together, so that a task never holds more than two states.
// Threads are made for one call of a large problem and end with it: nothing spins, and a fork is safe.
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <thread>

#include "gates.hpp"

namespace {

const int DIRECT_PHASES = 4, DIRECT_STRINGS = 2;          // up to so many masks are taken one by one, not by a transform
const size_t KEPT_BYTES = size_t(1) << 26;                // scratch memory that a thread keeps for its next call

struct Arena {
  char* memory = nullptr;
  size_t size = 0;
  ~Arena() { std::free(memory); }
  void* get(size_t bytes) {
    if (bytes > size || size > KEPT_BYTES) {
      std::free(memory);
      size = (bytes + 4095) / 4096 * 4096;
      memory = static_cast<char*>(std::aligned_alloc(4096, size));
      if (!memory) size = 0;
    }
    return memory;
  }
};

template <class T> struct Call {
  const Plan& plan;
  int64_t batch;
  const T *inputs, *weights;                              // (n_in, B) and (n_w,)
  T* values;                                              // (n_obs, B)
  const T* grad_values;
  T *grad_inputs, *grad_weights;
  T* states;                                              // final states, or null
  int64_t blocks, singles;                                // tasks with samples in lanes, tasks with one sample
  std::vector<T> base, sine, cosine;                      // of every angle: its data-free part, and of its half
  std::vector<T> quaternions;                             // of every data-free pair: two branches of w, x, y, z
};

template <class T> struct Worker {
  typedef vec<T> v;
  static constexpr int L = Lanes<T>::width;
  Call<T>& call;
  const Plan& plan;
  int lane_bits = 0;                                      // of the present task
  size_t blocks = 0;                                      // vectors of a state, without the factor 2
  int64_t first = 0;
  int samples = 0;
  v *state = nullptr, *grad = nullptr, *table = nullptr;
  std::vector<v> sine, cosine, grad_angle;                // half angles, and gradients by angle
  std::vector<Bloch<T>> found;                            // of data-free pairs: two branches
  std::vector<v> found_angle;                             // of data-free angles in phases
  std::vector<double> grad_weights;

  explicit Worker(Call<T>& c) : call(c), plan(c.plan) {
    sine.resize(plan.angles.size()), cosine.resize(plan.angles.size()), grad_angle.resize(plan.angles.size());
    found.resize(2 * plan.pairs.size());
    found_angle.resize(plan.angles.size());
    grad_weights.resize(size_t(plan.num_weights));
  }

  // Vectors of the largest state of a call, without the factor 2.
  static size_t largest(const Call<T>& call) {
    return size_t(1) << (call.plan.num_qubits - (call.blocks ? 0 : Lanes<T>::bits));
  }
  static size_t bytes(const Call<T>& call, bool backward) { return largest(call) * sizeof(v) * (backward ? 5 : 3); }

  void memory(void* place, bool backward) {
    const size_t size = largest(call);
    table = static_cast<v*>(place);
    state = table + size;
    grad = backward ? state + 2 * size : nullptr;
  }

  void start(int64_t task) {
    if (task < call.blocks) {
      lane_bits = 0, first = task * L, samples = int(std::min<int64_t>(L, call.batch - first));
    } else {
      lane_bits = Lanes<T>::bits, first = call.blocks * L + (task - call.blocks), samples = 1;
    }
    blocks = size_t(1) << (plan.num_qubits - lane_bits);
    for (const size_t k : plan.batched) {
      const Angle& a = plan.angles[k];
      v total = v{} + call.base[k];
      for (size_t j = 0; j < a.input.size(); ++j)
        total += T(a.input_factor[j]) * samples_of(call.inputs + size_t(a.input[j]) * size_t(call.batch));
      sincos_lanes(total * T(0.5), sine[k], cosine[k]);
    }
  }

  v samples_of(const T* row) const {
    v x = {};
    if (lane_bits) return x + row[first];
    if (samples == L) memcpy(&x, row + first, sizeof x);
    else for (int l = 0; l < samples; ++l) x[l] = row[first + l];
    return x;
  }

  v half_sine(int k) const { return plan.angles[size_t(k)].batched() ? sine[size_t(k)] : v{} + call.sine[size_t(k)]; }
  v half_cosine(int k) const {
    return plan.angles[size_t(k)].batched() ? cosine[size_t(k)] : v{} + call.cosine[size_t(k)];
  }

  Quaternion<T> quaternion(const Pair& p, int branch) const {
    if (!p.batched) {
      const T* q = &call.quaternions[size_t(8 * p.place + 4 * branch)];
      return {v{} + q[0], v{} + q[1], v{} + q[2], v{} + q[3]};
    }
    Quaternion<T> q = {v{} + T(1), v{}, v{}, v{}};
    for (const Factor& f : p.factors) multiply(q, f.axis, half_cosine(f.angle), half_sine(f.angle) * T(f.sign[branch]));
    return q;
  }

  template <class Q, class S> static void multiply(Q& q, int axis, S c, S s) {
    const S w = q.w, x = q.x, y = q.y, z = q.z;
    if (axis == 0) q.w = c * w - s * x, q.x = c * x + s * w, q.y = c * y - s * z, q.z = c * z + s * y;
    else if (axis == 1) q.w = c * w - s * y, q.y = c * y + s * w, q.x = c * x + s * z, q.z = c * z - s * x;
    else q.w = c * w - s * z, q.z = c * z + s * w, q.x = c * x - s * y, q.y = c * y + s * x;
  }

  // The matrices of the vectors of a class and of their partners; y and z carry the signs of the lanes' bits.
  Sides<T> of_class(const Quaternion<T>* branches, const Geometry& g, const Class& c) const {
    if (!lane_bits) return {branches[c.branch], branches[c.branch]};
    Sides<T> q = {of_side(branches, g, c.branch), of_side(branches, g, c.branch ^ int(g.crossed))};
    const v sign = signs(g, c), other = g.opposite ? -sign : sign;
    q.near.y *= sign, q.near.z *= sign, q.far.y *= other, q.far.z *= other;
    return q;
  }

  Quaternion<T> of_side(const Quaternion<T>* branches, const Geometry& g, int branch) const {
    const Quaternion<T>&a = branches[branch], &b = branches[1 - branch];
    if (!g.branch_lanes) return a;
    const v even = even_lanes(g.branch_lanes), odd = T(1) - even;
    return {even * a.w + odd * b.w, even * a.x + odd * b.x, even * a.y + odd * b.y, even * a.z + odd * b.z};
  }

  static v even_lanes(int mask) { return (lane_signs<T>(u64(mask)) + T(1)) * T(0.5); }
  v signs(const Geometry& g, const Class& c) const {
    return lane_signs<T>(u64(g.bit_lanes)) * T(c.bit ? -1 : 1);
  }

  void pair_ahead(const Pair& p) {
    const Geometry& g = p.geometry[lane_bits];
    Quaternion<T> q[2];
    matrices(p, q);
    for (const Class& c : g.classes) forward_class<T>(p.kind, state, c, g, of_class(q, g, c));
  }

  void matrices(const Pair& p, Quaternion<T>* q) const {
    q[0] = quaternion(p, 0);
    q[1] = p.select ? quaternion(p, 1) : q[0];
  }

  static void invert(Quaternion<T>& q) { q.x = -q.x, q.y = -q.y, q.z = -q.z; }

  void pair_back(const Pair& p) {
    const Geometry& g = p.geometry[lane_bits];
    Quaternion<T> q[2];
    matrices(p, q);
    invert(q[0]), invert(q[1]);
    Bloch<T> total[2] = {};
    for (const Class& c : g.classes) {
      BlochSides<T> b = backward_class<T>(p.kind, p.learns, state, grad, c, g, of_class(q, g, c));
      if (!p.learns) continue;
      if (!lane_bits) {
        b.near.y = -b.near.y;
        add(total[c.branch], b.near);
        continue;
      }
      const v sign = signs(g, c);
      add_side(total, b.near, g, sign, c.branch);
      if (g.far && g.shuffle) add_side(total, b.far, g, g.opposite ? -sign : sign, c.branch ^ int(g.crossed));
    }
    if (!p.learns) return;
    for (int branch = 0; branch < (p.select ? 2 : 1); ++branch) {
      Bloch<T>& b = total[branch];
      if (lane_bits) b = {in_one(b.x), in_one(b.y), in_one(b.z)};
      if (p.batched) {
        to_angles(p, branch, b, grad_angle.data(), [&](int k) { return half_cosine(k); }, [&](int k) { return half_sine(k); });
      } else {
        add(found[size_t(2 * p.place + branch)], b);
      }
    }
  }

  static void add_side(Bloch<T>* total, Bloch<T> b, const Geometry& g, v sign, int branch) {
    b.y *= -sign, b.z *= sign;
    if (!g.branch_lanes) return add(total[branch], b);
    const v even = even_lanes(g.branch_lanes);
    add(total[branch], b, even);
    add(total[1 - branch], b, T(1) - even);
  }

  static void add(Bloch<T>& to, const Bloch<T>& b) { to.x += b.x, to.y += b.y, to.z += b.z; }
  static void add(Bloch<T>& to, const Bloch<T>& b, v weight) {
    to.x += weight * b.x, to.y += weight * b.y, to.z += weight * b.z;
  }

  static v in_one(v a) {
    v result = {};
    result[0] = sum_lanes<T>(a);
    return result;
  }

  // Gradients by the angles of a pair's factors from those read after the last one: conjugation turns the three axes.
  template <class C, class S>
  static void to_angles(const Pair& p, int branch, Bloch<T> b, v* angles, C cosine_of, S sine_of) {
    for (size_t k = p.factors.size(); k--;) {
      const Factor& f = p.factors[k];
      const T sign = T(f.sign[branch]);
      angles[f.angle] += sign * (f.axis == 0 ? b.x : f.axis == 1 ? b.y : b.z);
      if (p.kind != GENERAL || !k) continue;
      const v c = cosine_of(f.angle), s = sine_of(f.angle), cc = c * c - s * s, ss = T(2) * sign * c * s;
      const Bloch<T> a = b;
      if (f.axis == 0) b.y = cc * a.y + ss * a.z, b.z = cc * a.z - ss * a.y;
      else if (f.axis == 1) b.z = cc * a.z + ss * a.x, b.x = cc * a.x - ss * a.z;
      else b.x = cc * a.x + ss * a.y, b.y = cc * a.y - ss * a.x;
    }
  }

  u64 lane_mask() const { return (u64(1) << lane_bits) - 1; }

  // Puts a number at a mask, for a transform of the table.
  void put(u64 mask, v value) {
    if (!lane_bits) table[mask] += value;
    else table[mask >> lane_bits][int(mask & lane_mask())] += value[0];
  }
  v take(u64 mask) const {
    if (!lane_bits) return table[mask];
    v result = {};
    result[0] = table[mask >> lane_bits][int(mask & lane_mask())];
    return result;
  }
  void clear() { memset(static_cast<void*>(table), 0, blocks * sizeof(v)); }
  void transformed() {
    transform<T>(table, plan.num_qubits - lane_bits);
    if (lane_bits) transform_lanes<T>(table, blocks);
  }

  void phase_angles(const Phase& p) {
    clear();
    for (size_t k = 0; k < p.masks.size(); ++k) put(p.masks[k], T(0.5 * p.sign[k]) * angle(p.angle[k]));
    transformed();
  }

  v angle(int k) const {
    const Angle& a = plan.angles[size_t(k)];
    v total = v{} + call.base[size_t(k)];
    for (size_t j = 0; j < a.input.size(); ++j)
      total += T(a.input_factor[j]) * samples_of(call.inputs + size_t(a.input[j]) * size_t(call.batch));
    return total;
  }

  void phase_ahead(const Phase& p) {
    if (p.masks.size() <= size_t(DIRECT_PHASES)) {
      for (size_t k = 0; k < p.masks.size(); ++k) direct_phase(p, k, state, T(1));
      return;
    }
    phase_angles(p);
    for (size_t i = 0; i < blocks; ++i) {
      v s, c, r = state[2 * i], m = state[2 * i + 1];
      sincos_lanes(table[i], s, c);
      state[2 * i] = c * r + s * m, state[2 * i + 1] = c * m - s * r;
    }
  }

  void phase_back(const Phase& p) {
    const bool direct = p.masks.size() <= size_t(DIRECT_PHASES);
    if (p.learns && direct) {
      for (size_t k = 0; k < p.masks.size(); ++k) {
        v total = {};
        const u64 mask = p.masks[k] >> lane_bits;
        for (size_t i = 0; i < blocks; ++i) {
          const v w = grad[2 * i] * state[2 * i + 1] - grad[2 * i + 1] * state[2 * i];
          total += parity(i & mask) ? -w : w;
        }
        if (lane_bits) total = in_one(total * lane_signs<T>(p.masks[k] & lane_mask()));
        learn_phase(p, k, total);
      }
    } else if (p.learns) {
      for (size_t i = 0; i < blocks; ++i) table[i] = grad[2 * i] * state[2 * i + 1] - grad[2 * i + 1] * state[2 * i];
      transformed();
      for (size_t k = 0; k < p.masks.size(); ++k) learn_phase(p, k, take(p.masks[k]));
    }
    if (direct) {
      for (size_t k = 0; k < p.masks.size(); ++k) direct_phase(p, k, state, T(-1)), direct_phase(p, k, grad, T(-1));
      return;
    }
    phase_angles(p);
    for (size_t i = 0; i < blocks; ++i) {
      v s, c, r = state[2 * i], m = state[2 * i + 1], a = grad[2 * i], b = grad[2 * i + 1];
      sincos_lanes(table[i], s, c);
      state[2 * i] = c * r - s * m, state[2 * i + 1] = c * m + s * r;
      grad[2 * i] = c * a - s * b, grad[2 * i + 1] = c * b + s * a;
    }
  }

  void learn_phase(const Phase& p, size_t k, v total) {
    const size_t a = size_t(p.angle[k]);
    (plan.angles[a].batched() ? grad_angle[a] : found_angle[a]) += T(p.sign[k]) * total;
  }

  void direct_phase(const Phase& p, size_t k, v* on, T direction) {
    const u64 mask = p.masks[k] >> lane_bits;
    const v c = half_cosine(p.angle[k]);
    v s = half_sine(p.angle[k]) * (direction * T(p.sign[k]));
    if (lane_bits) s *= lane_signs<T>(p.masks[k] & lane_mask());
    for (size_t i = 0; i < blocks; ++i) {
      const v t = parity(i & mask) ? -s : s, r = on[2 * i], m = on[2 * i + 1];
      on[2 * i] = c * r + t * m, on[2 * i + 1] = c * m - t * r;
    }
  }

  void evolve() {
    memset(static_cast<void*>(state), 0, 2 * blocks * sizeof(v));
    if (lane_bits) state[0][0] = T(1);
    else state[0] += T(1);
    for (const Op& op : plan.ops) op.pair ? pair_ahead(plan.pairs[size_t(op.index)]) : phase_ahead(plan.phases[size_t(op.index)]);
  }

  // Products conj(psi_{i ^ x}) psi_i: real part, or minus the imaginary part.
  struct Products {
    Worker& w;
    u64 far;
    bool real;
    template <int X> void run() const {
      const v* s = w.state;
      for (size_t i = 0; i < w.blocks; ++i) {
        const size_t j = i ^ far;
        const v r = s[2 * i], m = s[2 * i + 1], a = flip<X>(s[2 * j]), b = flip<X>(s[2 * j + 1]);
        w.table[i] = real ? a * r + b * m : b * r - a * m;
      }
    }
  };

  struct Adjoint {                                        // gradient_{i ^ x} += weight_i psi_i (times i if not real)
    Worker& w;
    u64 far;
    bool real;
    template <int X> void run() const {
      const v* s = w.state;
      for (size_t i = 0; i < w.blocks; ++i) {
        const size_t j = i ^ far;
        const v weight = w.table[i], r = weight * s[2 * i], m = weight * s[2 * i + 1];
        w.grad[2 * j] += flip<X>(real ? r : -m);
        w.grad[2 * j + 1] += flip<X>(real ? m : r);
      }
    }
  };

  static bool is_real(const String& s) { return s.num_y % 2 == 0; }
  static T sign_of(const String& s) { return s.num_y < 2 ? T(1) : T(-1); }

  template <class F> void each_part(F f) {
    for (const Group& g : plan.groups)
      for (const bool real : {true, false}) {
        bool any = false;
        for (const String& s : g.strings) any |= is_real(s) == real;
        if (any) f(g, real);
      }
  }

  void read() {
    std::vector<v> totals(size_t(plan.num_observables), v{});
    each_part([&](const Group& g, bool real) {
      with_shuffle<L>(int(g.flips & lane_mask()), Products{*this, g.flips >> lane_bits, real});
      const bool direct = g.strings.size() <= size_t(DIRECT_STRINGS);
      if (!direct) transformed();
      for (const String& s : g.strings) {
        if (is_real(s) != real) continue;
        const v value = sign_of(s) * (direct ? direct_sum(s.mask) : take(s.mask));
        for (const Term& t : s.terms) totals[size_t(t.observable)] += T(t.coefficient) * value;
      }
    });
    for (int o = 0; o < plan.num_observables; ++o)
      for (int l = 0; l < samples; ++l)
        call.values[size_t(o) * size_t(call.batch) + size_t(first + l)] = totals[size_t(o)][l] + T(plan.offsets[size_t(o)]);
  }

  v direct_sum(u64 mask) const {
    v total = {};
    for (size_t i = 0; i < blocks; ++i) total += parity(i & (mask >> lane_bits)) ? -table[i] : table[i];
    return lane_bits ? in_one(total * lane_signs<T>(mask & lane_mask())) : total;
  }

  void pull_back() {
    memset(static_cast<void*>(grad), 0, 2 * blocks * sizeof(v));
    each_part([&](const Group& g, bool real) {
      clear();
      for (const String& s : g.strings) {
        if (is_real(s) != real) continue;
        v weight = {};
        for (const Term& t : s.terms)
          weight += T(t.coefficient) * samples_of(call.grad_values + size_t(t.observable) * size_t(call.batch));
        put(s.mask, sign_of(s) * weight);
      }
      transformed();
      with_shuffle<L>(int(g.flips & lane_mask()), Adjoint{*this, g.flips >> lane_bits, real});
    });
  }

  T* saved() const {
    return call.states + ((size_t(first) << plan.num_qubits) * 2);
  }

  void forward(int64_t task) {
    start(task);
    evolve();
    if (call.states) memcpy(saved(), state, 2 * blocks * sizeof(v));
    read();
  }

  void backward(int64_t task) {
    start(task);
    if (call.states) memcpy(static_cast<void*>(state), saved(), 2 * blocks * sizeof(v));
    else evolve();
    pull_back();
    for (const size_t k : plan.by_task) grad_angle[k] = v{};
    for (size_t k = plan.ops.size(); k--;) {
      const Op& op = plan.ops[k];
      op.pair ? pair_back(plan.pairs[size_t(op.index)]) : phase_back(plan.phases[size_t(op.index)]);
    }
    for (const size_t k : plan.by_task) share(plan.angles[k], grad_angle[k], true);
  }

  void share(const Angle& a, v gradient, bool with_inputs) {
    if (with_inputs)
      for (size_t j = 0; j < a.input.size(); ++j)
        for (int l = 0; l < samples; ++l)
          call.grad_inputs[size_t(a.input[j]) * size_t(call.batch) + size_t(first + l)] += T(a.input_factor[j]) * gradient[l];
    if (a.weight.empty()) return;
    const double total = sum_lanes<T>(gradient);
    for (size_t j = 0; j < a.weight.size(); ++j) grad_weights[size_t(a.weight[j])] += a.weight_factor[j] * total;
  }

  // Gradients by data-free angles, once all samples of this worker are added up.
  void finish() {
    for (const Pair& p : plan.pairs)
      for (int branch = 0; branch < (p.select ? 2 : 1); ++branch)
        if (p.learns && !p.batched)
          to_angles(p, branch, found[size_t(2 * p.place + branch)], found_angle.data(),
                    [&](int k) { return v{} + call.cosine[size_t(k)]; }, [&](int k) { return v{} + call.sine[size_t(k)]; });
    for (size_t k = 0; k < plan.angles.size(); ++k) share(plan.angles[k], found_angle[k], false);
  }
};

// What all tasks share: data-free angles and matrices.
template <class T> void prepare(Call<T>& call) {
  typedef vec<T> v;
  constexpr size_t L = Lanes<T>::width;
  const Plan& plan = call.plan;
  const size_t count = plan.angles.size(), padded = (count + L - 1) / L * L;
  call.base.resize(padded), call.sine.resize(padded), call.cosine.resize(padded);
  for (size_t k = 0; k < count; ++k) {
    const Angle& a = plan.angles[k];
    double total = a.offset;
    for (size_t j = 0; j < a.weight.size(); ++j) total += a.weight_factor[j] * double(call.weights[a.weight[j]]);
    call.base[k] = T(total);
  }
  for (size_t k = 0; k < padded; k += L) {
    v x, s, c;
    memcpy(&x, &call.base[k], sizeof x);
    sincos_lanes(x * T(0.5), s, c);
    memcpy(&call.sine[k], &s, sizeof s), memcpy(&call.cosine[k], &c, sizeof c);
  }
  call.quaternions.resize(8 * plan.pairs.size());
  struct Scalar { T w, x, y, z; };
  for (const Pair& p : plan.pairs)
    for (int branch = 0; branch < 2 && !p.batched; ++branch) {
      Scalar q = {1, 0, 0, 0};
      for (const Factor& f : p.factors)
        Worker<T>::multiply(q, f.axis, call.cosine[size_t(f.angle)], T(f.sign[branch]) * call.sine[size_t(f.angle)]);
      memcpy(&call.quaternions[size_t(8 * p.place + 4 * branch)], &q, sizeof q);
    }
}

template <class T> void divide(Call<T>& call, int singles_up_to) {
  constexpr int L = Lanes<T>::width;
  const int64_t rest = call.batch % L;
  call.blocks = call.batch / L, call.singles = 0;
  if (singles_up_to >= L && call.plan.num_qubits >= Lanes<T>::bits) {
    call.blocks = 0, call.singles = call.batch;
    return;
  }
  if (rest && rest <= singles_up_to && call.plan.num_qubits >= Lanes<T>::bits) call.singles = rest;
  else if (rest) ++call.blocks;
}

template <class T> int divided(Call<T>& call, bool backward, int threads, int singles_up_to) {
  if (!call.batch) return 0;
  divide(call, singles_up_to);
  prepare(call);
  const int64_t tasks = call.blocks + call.singles;
  const int workers = int(std::max<int64_t>(1, std::min<int64_t>(threads, tasks)));
  static thread_local Arena arena;
  const size_t bytes = Worker<T>::bytes(call, backward);
  char* memory = static_cast<char*>(arena.get(bytes * size_t(workers)));
  if (!memory) return 1;
  std::vector<Worker<T>> team;
  for (int number = 0; number < workers; ++number) team.emplace_back(call);
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  auto work = [&](int number) {
    try {
      Worker<T>& w = team[size_t(number)];
      w.memory(memory + bytes * size_t(number), backward);
      for (int64_t task; (task = next++) < tasks;) backward ? w.backward(task) : w.forward(task);
      if (backward) w.finish();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  };
  std::vector<std::thread> others;
  try {
    for (int number = 1; number < workers; ++number) others.emplace_back(work, number);
  } catch (const std::exception&) {}                      // no more threads: those that are there do the work
  work(0);
  for (std::thread& other : others) other.join();
  if (failed) return 1;
  if (backward)
    for (int k = 0; k < call.plan.num_weights; ++k) {
      double total = 0;
      for (const Worker<T>& w : team) total += w.grad_weights[size_t(k)];
      call.grad_weights[k] += T(total);
    }
  return 0;
}

template <class T> bool all_finite(const T* numbers, size_t count) {
  int bad = 0;
  for (size_t k = 0; k < count; ++k) bad |= !(std::fabs(numbers[k]) <= std::numeric_limits<T>::max());
  return !bad;
}

// A caller's matrix, in whatever order it lies in memory, as rows of B samples.
template <class T> struct Matrix {
  T* data;
  int64_t by_sample, by_column;
  template <class S> void to_rows(S* rows, int64_t batch, int columns) const {
    for (int j = 0; j < columns; ++j)
      for (int64_t b = 0; b < batch; ++b) rows[j * batch + b] = data[b * by_sample + j * by_column];
  }
  void from_rows(const T* rows, int64_t batch, int columns) const {
    for (int j = 0; j < columns; ++j)
      for (int64_t b = 0; b < batch; ++b) data[b * by_sample + j * by_column] = rows[j * batch + b];
  }
};

enum Answer { GOOD, NO_MEMORY, NOT_FINITE };

// Parameters of a step, and behind them the angles that expressions make of them.
template <class T> struct Parameters {
  std::vector<T> inputs, weights;                         // (n_in + K, B) and (n_w + L,)
  bool finite;
  Parameters(const Step& step, int64_t batch, Matrix<const T> rows, const T* vector, int64_t stride)
      : inputs((size_t(step.num_inputs) + step.expressions.batched.size()) * size_t(batch)),
        weights(size_t(step.num_weights) + step.expressions.free.size()) {
    rows.to_rows(inputs.data(), batch, step.num_inputs);
    for (int j = 0; j < step.num_weights; ++j) weights[size_t(j)] = vector[j * stride];
    step.expressions.evaluate(inputs.data(), weights.data(), batch, step.num_inputs, step.num_weights);
    finite = all_finite(inputs.data(), inputs.size()) && all_finite(weights.data(), weights.size());
  }
};

template <class T> T* memory_of(T* states, int64_t place) { return place < 0 ? nullptr : states + place; }

template <class T>
int values(const Step& step, int64_t batch, Matrix<const T> inputs, const T* weights, int64_t stride, T* result,
           T* states, const int64_t* places, const int* threads, const int* singles) {
  const Parameters<T> p(step, batch, inputs, weights, stride);
  std::vector<T> own(size_t(step.num_observables) * size_t(batch)), total;
  bool finite = p.finite;
  for (size_t k = 0; k < step.runs.size(); ++k) {
    Call<T> call{step.runs[k], batch, p.inputs.data(), p.weights.data(), own.data(), nullptr, nullptr, nullptr,
                 memory_of(states, places[k]), 0, 0, {}, {}, {}, {}};
    if (divided(call, false, threads[k], singles[k])) return NO_MEMORY;
    if (k == 0 && step.runs.size() > 1) total = own;
    else for (size_t i = 0; i < total.size(); ++i) total[i] += own[i];
  }
  const std::vector<T>& found = step.runs.size() > 1 ? total : own;
  finite &= all_finite(found.data(), found.size());
  Matrix<T>{result, step.num_observables, 1}.from_rows(found.data(), batch, step.num_observables);
  return finite ? GOOD : NOT_FINITE;
}

template <class T>
int gradients(const Step& step, int64_t batch, Matrix<const T> inputs, const T* weights, int64_t stride,
              Matrix<const T> above, T* states, const int64_t* places, T* grad_inputs, T* grad_weights,
              const int* threads, const int* singles) {
  Parameters<T> p(step, batch, inputs, weights, stride);
  std::vector<T> grads(size_t(step.num_observables) * size_t(batch)), by_input(p.inputs.size()),
      by_weight(p.weights.size());
  above.to_rows(grads.data(), batch, step.num_observables);
  for (size_t k = 0; k < step.runs.size(); ++k) {
    Call<T> call{step.runs[k], batch, p.inputs.data(), p.weights.data(), nullptr, grads.data(), by_input.data(),
                 by_weight.data(), memory_of(states, places[k]), 0, 0, {}, {}, {}, {}};
    if (divided(call, true, threads[k], singles[k])) return NO_MEMORY;
  }
  step.expressions.pull_back(p.inputs.data(), p.weights.data(), batch, step.num_inputs, step.num_weights,
                             by_input.data(), by_weight.data());
  if (grad_inputs) Matrix<T>{grad_inputs, step.num_inputs, 1}.from_rows(by_input.data(), batch, step.num_inputs);
  std::copy_n(by_weight.begin(), step.num_weights, grad_weights);
  return GOOD;
}

template <class F> int safely(F f) {
  try {
    return f();
  } catch (const std::exception&) {
    return NO_MEMORY;
  }
}

}  // namespace

// Values have shape (B, n_obs), inputs (B, n_in), both gradients the shape of theirs; what comes in may lie in memory
// in any order, what goes out lies row by row. `states` has room for B final states of every run (2^n complex numbers
// each, the last vector of samples filled up) from the run's place on; a place below 0: they are not kept.
extern "C" {
void* qhybrid_step(const int64_t* ints, const double* reals) {
  try {
    return new Step(ints, reals);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void qhybrid_step_free(void* step) { delete static_cast<Step*>(step); }

#define FUNCTIONS(T, NAME)                                                                                         \
  int qhybrid_values_##NAME(const void* step, int64_t batch, const T* inputs, int64_t by_sample, int64_t by_column, \
                            const T* weights, int64_t stride, T* result, T* states, const int64_t* places,         \
                            const int* threads, const int* singles) {                                              \
    return safely([&] {                                                                                            \
      return values<T>(*static_cast<const Step*>(step), batch, {inputs, by_sample, by_column}, weights, stride,    \
                       result, states, places, threads, singles);                                                  \
    });                                                                                                            \
  }                                                                                                                \
  int qhybrid_gradients_##NAME(const void* step, int64_t batch, const T* inputs, int64_t by_sample,                \
                               int64_t by_column, const T* weights, int64_t stride, T* states,                     \
                               const int64_t* places, const int* threads, const int* singles, const T* above,      \
                               int64_t above_by_sample, int64_t above_by_column, T* grad_inputs,                   \
                               T* grad_weights) {                                                                  \
    return safely([&] {                                                                                            \
      return gradients<T>(*static_cast<const Step*>(step), batch, {inputs, by_sample, by_column}, weights, stride, \
                          {above, above_by_sample, above_by_column}, states, places, grad_inputs, grad_weights,    \
                          threads, singles);                                                                       \
    });                                                                                                            \
  }
FUNCTIONS(float, float32)
FUNCTIONS(double, float64)
}
