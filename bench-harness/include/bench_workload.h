/* The interface of a workload written in C, version 1.
 *
 * A file includes this header and defines one array:
 *
 *     const struct bench_workload bench_workloads[] = {
 *         { .abi = BENCH_WORKLOAD_ABI, .name = "my.workload", ... },
 *         { 0 }
 *     };
 *
 * and is built into the worker with `--workload-file` (docs/WORKLOADS.md). Everything
 * else in the file should be static. libevent's public headers are on the include path.
 *
 * A launch calls setup once; then, for every batch, prepare, run, finish; then teardown. Only run is
 * timed. Every batch does the same work, whatever ran before it, so that each has the same checksum.
 *
 * Functions return NULL, or a message that says what went wrong and lives on after the call; an error
 * voids the run, and teardown is called if setup had succeeded. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdint.h>

#define BENCH_WORKLOAD_ABI 1

/* What the workload is judged by. */
enum bench_metric {
    BENCH_CPU_TIME = 0, /* user and system time of the process, per event: throughput */
    BENCH_WALL_TIME = 1 /* elapsed time per event: latency */
};

/* Flags. */
#define BENCH_THREADS 1u      /* it runs several threads */
#define BENCH_EXACT_COUNTS 2u /* instructions per event are the same in every run, clock and random numbers being pinned */

struct bench_workload {
    uint32_t abi;          /* BENCH_WORKLOAD_ABI */
    uint32_t metric;       /* enum bench_metric */
    uint32_t flags;        /* BENCH_THREADS, BENCH_EXACT_COUNTS */
    const char *name;      /* unique; a-z, 0-9, `_` and `.`; NULL ends the array */
    const char *event;     /* what one event is, in words */
    uint64_t batch_events; /* events of one batch; a batch should last about 0.3 ms */
    uint64_t checksum;     /* what finish must report, known without calling libevent */

    const char *(*setup)(void **state);                    /* not timed; may be NULL */
    const char *(*prepare)(void *state);                   /* not timed; may be NULL */
    const char *(*run)(void *state, uint64_t *events);     /* timed: one batch, and how many events it did */
    const char *(*finish)(void *state, uint64_t *checksum); /* not timed: checks what was delivered */
    void (*teardown)(void *state);                         /* not timed; may be NULL */
};

/* The array that a file defines. */
extern const struct bench_workload bench_workloads[];

/* A checksum that depends on the order of the values, the same as checksum::Fold of the Rust side:
 *     uint64_t sum = BENCH_FOLD_START;
 *     sum = bench_fold(sum, value); ...
 *     *checksum = bench_fold_finish(sum); */
#define BENCH_FOLD_START 0x9e3779b97f4a7c15ull

static inline uint64_t bench_fold(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0xff51afd7ed558ccdull;
    return (sum << 29) | (sum >> 35);
}

static inline uint64_t bench_fold_finish(uint64_t sum) { return sum ^ (sum >> 32); }

#endif
