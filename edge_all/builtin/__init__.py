"""The bundle that ships inside the wheel, so that `edge-all classify` answers at once, offline."""
