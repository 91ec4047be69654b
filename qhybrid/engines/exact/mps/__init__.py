"""Matrix product states: wide circuits of low entanglement, with a bound of what truncation cost."""
