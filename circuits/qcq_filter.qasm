// qcq_filter: 4 qubits, 4 inputs, 0 weights
// observables: Z0, Z1, Z2, Z3
OPENQASM 3.0;
include "stdgates.inc";
input float[64] _x_0_;
input float[64] _x_1_;
input float[64] _x_2_;
input float[64] _x_3_;
qubit[4] q;
ry(pi*_x_0_) q[0];
ry(pi*_x_1_) q[1];
ry(pi*_x_2_) q[2];
ry(pi*_x_3_) q[3];
barrier q[0], q[1], q[2], q[3];
rz(3.0447852381130596) q[0];
ry(3.786311291399884) q[0];
rz(1.0154204787461603) q[1];
ry(0.8933532908339133) q[1];
rz(5.793270500698012) q[2];
ry(6.041257863606577) q[2];
rz(0.42369568952363135) q[3];
ry(2.3948927203592003) q[3];
cx q[0], q[1];
cx q[1], q[2];
cx q[2], q[3];

