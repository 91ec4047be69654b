"""qhybrid: image models with Qiskit circuits inside, from training to IBM quantum hardware."""

__version__ = "0.1.0"
