static inline __attribute__((always_inline)) unsigned mixed(unsigned value) {
	value ^= value >> 3;
	value *= 2654435761u;
	return value ^ (value << 7);
}
