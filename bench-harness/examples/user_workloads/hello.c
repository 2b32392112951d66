/* A user's workloads in C: copy this file, change it, and build it in:
 *
 *     cargo xtask bench --workload-file hello.c --workload 'hello.*'
 *
 * It measures evbuffer_prepend(): bytes put in front of a buffer, then taken off again. */
#include <bench_workload.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 32, PIECES = 8, ROUNDS = 8000 };

struct state {
    struct evbuffer *buffer;
    unsigned char piece[PIECE_BYTES];
    uint64_t sum;
};

static const char *setup(void **state)
{
    struct state *s = calloc(1, sizeof *s);
    if (!s)
        return "out of memory";
    s->buffer = evbuffer_new();
    if (!s->buffer) {
        free(s);
        return "evbuffer_new failed";
    }
    for (int i = 0; i < PIECE_BYTES; i++)
        s->piece[i] = (unsigned char)i;
    *state = s;
    return NULL;
}

static const char *prepare(void *state)
{
    struct state *s = state;
    s->sum = BENCH_FOLD_START;
    return NULL;
}

/* Timed. The first byte of each piece is its number, so that a buffer in the wrong order, or one that
 * lost a piece, gives another checksum. */
static const char *run(void *state, uint64_t *events)
{
    struct state *s = state;
    uint64_t done = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PIECES; i++) {
            s->piece[0] = (unsigned char)i;
            if (evbuffer_prepend(s->buffer, s->piece, PIECE_BYTES))
                return "evbuffer_prepend failed";
            done++;
        }
        for (int i = 0; i < PIECES; i++) {
            unsigned char got[PIECE_BYTES];
            if (evbuffer_remove(s->buffer, got, PIECE_BYTES) != PIECE_BYTES)
                return "a piece is missing";
            s->sum = bench_fold(s->sum, got[0] | got[PIECE_BYTES - 1] << 8);
        }
    }
    *events = done;
    return NULL;
}

static const char *finish(void *state, uint64_t *checksum)
{
    struct state *s = state;
    if (evbuffer_get_length(s->buffer) != 0)
        return "bytes are left in the buffer";
    *checksum = bench_fold_finish(s->sum);
    return NULL;
}

static void teardown(void *state)
{
    struct state *s = state;
    evbuffer_free(s->buffer);
    free(s);
}

const struct bench_workload bench_workloads[] = {
    {
        .abi = BENCH_WORKLOAD_ABI,
        .metric = BENCH_CPU_TIME,
        .flags = BENCH_EXACT_COUNTS,
        .name = "hello.prepend.32",
        .event = "32 bytes prepended, and removed again",
        .batch_events = ROUNDS * PIECES,
        /* Computed without libevent, by folding the pieces in the order in which they must come out. */
        .checksum = 0x3640234b3cdfbf71,
        .setup = setup,
        .prepare = prepare,
        .run = run,
        .finish = finish,
        .teardown = teardown,
    },
    { 0 },
};
