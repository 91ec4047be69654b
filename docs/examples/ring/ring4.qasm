// Ring of 4 qubits: in each of 2 layers the data are uploaded anew, and CRX gates go once around.
OPENQASM 3.0;
include "stdgates.inc";
input float x_0;
input float x_1;
input float x_2;
input float x_3;
input float w_0;
input float w_1;
input float w_2;
input float w_3;
input float w_4;
input float w_5;
input float w_6;
input float w_7;
qubit[4] q;

ry(x_0) q[0];
ry(x_1) q[1];
ry(x_2) q[2];
ry(x_3) q[3];
crx(w_0) q[0], q[1];
crx(w_1) q[1], q[2];
crx(w_2) q[2], q[3];
crx(w_3) q[3], q[0];

ry(x_0) q[0];
ry(x_1) q[1];
ry(x_2) q[2];
ry(x_3) q[3];
crx(w_4) q[0], q[1];
crx(w_5) q[1], q[2];
crx(w_6) q[2], q[3];
crx(w_7) q[3], q[0];
