#include "inlined.h"
#define APART __attribute__((noinline, noclone))

static volatile unsigned sink;

APART void leaf(unsigned value) { sink += mixed(value); }

APART unsigned alone(unsigned depth) {
	leaf(depth);
	if (depth == 0)
		return 1;
	unsigned below = alone(depth - 1);
	return sink + below * depth;
}

APART unsigned odd(unsigned depth);

APART unsigned even(unsigned depth) {
	leaf(depth);
	if (depth == 0)
		return 1;
	unsigned below = odd(depth - 1);
	return below + sink;
}

APART unsigned odd(unsigned depth) {
	if (depth == 0)
		return 0;
	unsigned below = even(depth - 1);
	return below ^ sink;
}

APART void bench_timed_batch(void) {
	sink += alone(10);
	sink += even(9);
	leaf(3);
}

int main(void) {
	for (int i = 0; i < 2; i++)
		bench_timed_batch();
	return 0;
}
