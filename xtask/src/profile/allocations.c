/* Counts allocations by call site, in a process that it is preloaded into.
 *
 * Only between two marks: the worker calls kill(its own id, 0) right before and right after the work of a batch
 * (bench-harness/src/worker/batch.rs, `Sign::mark`), and no workload makes that call. A call site is a list of
 * return addresses, found by frame pointers; libevent and the worker are compiled with them. The C library is not,
 * so what it calls malloc for shows no caller of its own; strdup and strndup are therefore replaced here.
 *
 * Everything has a bound: depth of a site, number of sites, objects. What finds no place is counted and said.
 * The report is written to the file that ALLOCATIONS_REPORT names, when the process ends, if it was marked at all: a
 * peer process that inherits this library says nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef ALLOCATIONS_DEPTH
#define ALLOCATIONS_DEPTH 12
#endif
#ifndef ALLOCATIONS_SITES
#define ALLOCATIONS_SITES 8192 /* a power of two */
#endif
/* A frame that is larger is none: the frame pointer was something else. */
#define MOST_FRAME_BYTES ((uintptr_t)1 << 20)
/* For what asks for memory while the C library's own functions are looked up. */
#define EARLY_BYTES 16384

enum kind { MALLOC, CALLOC, REALLOC, FREE, ALIGNED, KINDS };
static const char *const kind_names[KINDS] = {"malloc", "calloc", "realloc", "free", "aligned"};

struct site {
	uint64_t calls; /* 0: an empty place */
	uint64_t bytes;
	enum kind kind;
	int depth;
	uintptr_t addresses[ALLOCATIONS_DEPTH];
};

static struct site sites[ALLOCATIONS_SITES];
static uint64_t used_sites;
static struct {
	uint64_t calls, bytes;
} lost[KINDS];
static uint64_t marks;
static pid_t marked; /* the process that marks are of: a child that it forks says nothing */
static int counting;
static char taken; /* a spin lock: what it protects takes less than a microsecond */

static void lock(void) {
	while (__atomic_test_and_set(&taken, __ATOMIC_ACQUIRE))
		;
}

static void unlock(void) { __atomic_clear(&taken, __ATOMIC_RELEASE); }

/* ---- the C library's own ---- */

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static void *(*real_memalign)(size_t, size_t);

static _Alignas(max_align_t) char early[EARLY_BYTES];
static size_t early_used;
static int looking_up;

/* Memory before the C library's functions are known; never given back. Each piece begins with its size. */
static void *early_malloc(size_t bytes) {
	size_t whole = (bytes + sizeof(max_align_t) * 2 - 1) / sizeof(max_align_t) * sizeof(max_align_t);
	if (bytes > sizeof early || whole > sizeof early - early_used) {
		errno = ENOMEM;
		return NULL;
	}
	char *piece = early + early_used;
	early_used += whole;
	memcpy(piece, &bytes, sizeof bytes);
	return piece + sizeof(max_align_t);
}

static int is_early(const void *memory) {
	return (const char *)memory >= early && (const char *)memory < early + sizeof early;
}

static size_t early_size(const void *memory) {
	size_t bytes;
	memcpy(&bytes, (const char *)memory - sizeof(max_align_t), sizeof bytes);
	return bytes;
}

static void look_up(void) {
	if (real_free || looking_up)
		return;
	looking_up = 1;
	real_malloc = dlsym(RTLD_NEXT, "malloc");
	real_calloc = dlsym(RTLD_NEXT, "calloc");
	real_realloc = dlsym(RTLD_NEXT, "realloc");
	real_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
	real_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
	real_memalign = dlsym(RTLD_NEXT, "memalign");
	real_free = dlsym(RTLD_NEXT, "free");
	looking_up = 0;
}

/* ---- call sites ---- */

/* The end of the calling thread's stack: a frame pointer beyond it is none. */
static _Thread_local uintptr_t stack_end __attribute__((tls_model("initial-exec")));
static _Thread_local int asking __attribute__((tls_model("initial-exec")));

static uintptr_t end_of_stack(void) {
	if (stack_end == 0 && !asking) {
		pthread_attr_t attributes;
		void *lowest;
		size_t bytes;
		int before = errno;
		asking = 1; /* it asks for memory itself */
		if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
			if (pthread_attr_getstack(&attributes, &lowest, &bytes) == 0)
				stack_end = (uintptr_t)lowest + bytes;
			pthread_attr_destroy(&attributes);
		}
		asking = 0;
		errno = before;
	}
	return stack_end;
}

/* Return addresses from `frame` outwards. */
static int walk(const void *frame, uintptr_t *addresses) {
	uintptr_t end = end_of_stack(), at = (uintptr_t)frame;
	int depth = 0;
	while (depth < ALLOCATIONS_DEPTH && at % sizeof(uintptr_t) == 0 && end > 0 && at < end - 2 * sizeof(uintptr_t)) {
		const uintptr_t *words = (const uintptr_t *)at;
		if (words[1] == 0)
			break;
		addresses[depth++] = words[1];
		if (words[0] <= at || words[0] - at > MOST_FRAME_BYTES)
			break;
		at = words[0];
	}
	return depth;
}

static void count(enum kind kind, uint64_t bytes, const void *frame) {
	struct site this = {.calls = 1, .bytes = bytes, .kind = kind};
	uint64_t hash = 14695981039346656037u ^ (uint64_t)kind;
	if (asking)
		return;
	this.depth = walk(frame, this.addresses);
	for (int i = 0; i < this.depth; i++)
		hash = (hash ^ this.addresses[i]) * 1099511628211u;
	hash ^= hash >> 29;
	lock();
	for (uint64_t i = 0; i < ALLOCATIONS_SITES; i++) {
		struct site *site = &sites[(hash + i) % ALLOCATIONS_SITES];
		if (site->calls == 0) {
			/* Some places stay empty, or every search for what is not there would be long. */
			if (used_sites >= ALLOCATIONS_SITES - ALLOCATIONS_SITES / 8)
				break;
			used_sites++;
			*site = this;
			unlock();
			return;
		}
		if (site->kind == kind && site->depth == this.depth &&
		    memcmp(site->addresses, this.addresses, (size_t)this.depth * sizeof this.addresses[0]) == 0) {
			site->calls++;
			site->bytes += bytes;
			unlock();
			return;
		}
	}
	lost[kind].calls++;
	lost[kind].bytes += bytes;
	unlock();
}

#define COUNT(kind, bytes)                                                     \
	do {                                                                       \
		if (__atomic_load_n(&counting, __ATOMIC_RELAXED))                      \
			count(kind, bytes, __builtin_frame_address(0));                    \
	} while (0)

/* ---- what the process calls ---- */

void *malloc(size_t bytes) {
	look_up();
	if (!real_malloc)
		return early_malloc(bytes);
	COUNT(MALLOC, bytes);
	return real_malloc(bytes);
}

void *calloc(size_t number, size_t each) {
	size_t bytes;
	look_up();
	if (__builtin_mul_overflow(number, each, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	if (!real_calloc)
		return early_malloc(bytes); /* static memory is zero, and each byte is handed out once */
	COUNT(CALLOC, bytes);
	return real_calloc(number, each);
}

static void *resize(void *memory, size_t bytes) {
	if (is_early(memory)) {
		void *moved = real_malloc ? real_malloc(bytes) : early_malloc(bytes);
		size_t old = early_size(memory);
		return moved ? memcpy(moved, memory, old < bytes ? old : bytes) : NULL;
	}
	return real_realloc ? real_realloc(memory, bytes) : early_malloc(bytes);
}

void *realloc(void *memory, size_t bytes) {
	look_up();
	/* realloc of nothing is an allocation like any other. */
	COUNT(memory ? REALLOC : MALLOC, bytes);
	return resize(memory, bytes);
}

void *reallocarray(void *memory, size_t number, size_t each) {
	size_t bytes;
	look_up();
	if (__builtin_mul_overflow(number, each, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	COUNT(memory ? REALLOC : MALLOC, bytes);
	return resize(memory, bytes);
}

void free(void *memory) {
	look_up();
	if (!memory || is_early(memory))
		return;
	COUNT(FREE, 0);
	if (real_free)
		real_free(memory);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
	look_up();
	COUNT(ALIGNED, bytes);
	return real_posix_memalign ? real_posix_memalign(memory, alignment, bytes) : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t bytes) {
	look_up();
	COUNT(ALIGNED, bytes);
	return real_aligned_alloc ? real_aligned_alloc(alignment, bytes) : NULL;
}

void *memalign(size_t alignment, size_t bytes) {
	look_up();
	COUNT(ALIGNED, bytes);
	return real_memalign ? real_memalign(alignment, bytes) : NULL;
}

/* In place of the C library's, which has no frame pointer: its caller would be missing. */
static char *copy_of(const char *text, size_t length, const void *frame) {
	char *copy;
	look_up();
	if (__atomic_load_n(&counting, __ATOMIC_RELAXED))
		count(MALLOC, length + 1, frame);
	copy = real_malloc ? real_malloc(length + 1) : early_malloc(length + 1);
	if (copy) {
		memcpy(copy, text, length);
		copy[length] = '\0';
	}
	return copy;
}

#undef strdup
#undef strndup

char *strdup(const char *text) { return copy_of(text, strlen(text), __builtin_frame_address(0)); }

char *strndup(const char *text, size_t most) { return copy_of(text, strnlen(text, most), __builtin_frame_address(0)); }

/* ---- marks ---- */

int kill(pid_t process, int signal) {
	if (signal == 0 && process == getpid()) {
		end_of_stack();
		marked = process;
		marks++;
		__atomic_store_n(&counting, marks % 2 == 1, __ATOMIC_SEQ_CST);
	}
	return (int)syscall(SYS_kill, process, signal);
}

/* ---- the report ---- */

static FILE *report;

static int write_object(struct dl_phdr_info *info, size_t bytes, void *number) {
	uintptr_t first = UINTPTR_MAX, last = 0;
	(void)bytes;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
			continue;
		uintptr_t from = info->dlpi_addr + part->p_vaddr;
		first = from < first ? from : first;
		last = from + part->p_memsz > last ? from + part->p_memsz : last;
	}
	/* The loader calls the program itself by no name. */
	if (first < last)
		fprintf(report, "object %d %#lx %#lx %#lx %s\n", (*(int *)number)++, (unsigned long)info->dlpi_addr,
		        (unsigned long)first, (unsigned long)last, info->dlpi_name[0] ? info->dlpi_name : "program");
	return 0;
}

__attribute__((destructor)) static void write_report(void) {
	const char *path = getenv("ALLOCATIONS_REPORT");
	int number = 0;
	__atomic_store_n(&counting, 0, __ATOMIC_SEQ_CST);
	if (marks == 0 || marked != getpid() || !path || !(report = fopen(path, "we")))
		return;
	fprintf(report, "allocations 1\nmarks %lu\ndepth %d\n", (unsigned long)marks, ALLOCATIONS_DEPTH);
	dl_iterate_phdr(write_object, &number);
	for (size_t i = 0; i < ALLOCATIONS_SITES; i++) {
		const struct site *site = &sites[i];
		if (site->calls == 0)
			continue;
		fprintf(report, "site %s %lu %lu", kind_names[site->kind], (unsigned long)site->calls,
		        (unsigned long)site->bytes);
		for (int j = 0; j < site->depth; j++)
			fprintf(report, " %#lx", (unsigned long)site->addresses[j]);
		fprintf(report, "\n");
	}
	for (int kind = 0; kind < KINDS; kind++)
		if (lost[kind].calls > 0)
			fprintf(report, "lost %s %lu %lu\n", kind_names[kind], (unsigned long)lost[kind].calls,
			        (unsigned long)lost[kind].bytes);
	/* Without it, the report is cut short. */
	fprintf(report, "end\n");
	fclose(report);
}
