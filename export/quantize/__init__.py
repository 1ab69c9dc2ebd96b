"""INT8 and FP16: schemes, the search for one that passes the gate, and the quantizers."""
