// qcq_classifier: 2 qubits, 2 inputs, 6 weights
// observables: Z0
OPENQASM 3.0;
include "stdgates.inc";
input float[64] _w_0_;
input float[64] _w_1_;
input float[64] _w_2_;
input float[64] _w_3_;
input float[64] _w_4_;
input float[64] _w_5_;
input float[64] _x_0_;
input float[64] _x_1_;
qubit[2] q;
h q[0];
h q[1];
p(2*_x_0_) q[0];
p(2*_x_1_) q[1];
cx q[0], q[1];
p((-pi + _x_0_)*(-pi + _x_1_)*2) q[1];
cx q[0], q[1];
h q[0];
h q[1];
p(2*_x_0_) q[0];
p(2*_x_1_) q[1];
cx q[0], q[1];
p((-pi + _x_0_)*(-pi + _x_1_)*2) q[1];
cx q[0], q[1];
barrier q[0], q[1];
ry(_w_0_) q[0];
ry(_w_1_) q[1];
cx q[0], q[1];
ry(_w_2_) q[0];
ry(_w_3_) q[1];
cx q[0], q[1];
ry(_w_4_) q[0];
ry(_w_5_) q[1];

