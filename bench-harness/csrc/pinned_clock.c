/* A clock that does not depend on time, and random numbers that are no accident: preloaded into a
 * worker whose instructions are counted, so that the same code does the same work in every run.
 *
 * How much libevent does depends on the time: which timers are due, whether an interval has passed,
 * how often a cached time is refreshed. Under callgrind, fifty times slower than the CPU, real time
 * would decide that anew in every run. So time passes here only by what the program does:
 * - every look at a clock takes PINNED_CLOCK_STEP_NS, or loops that wait for the time would not end;
 * - a sleep takes as long as was asked for, and returns at once;
 * - a wait for descriptors takes its whole timeout if nothing becomes ready, and else no time at all.
 * All clocks are this one, each with an offset of its own. A timerfd stays real: it is the watchdog
 * that ends a batch in which an event was lost. (A base with a precise timer that waits for its timers
 * therefore does not get on, and is refused by the harness's time limit.)
 *
 * What these functions execute is counted, in place of the C library's own. Each does the same number
 * of instructions however long the kernel takes. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_IN_S 1000000000
/* 2001-09-09 01:46:40 UTC: certificates and dates work, and nobody takes it for today. */
#define DAY_CLOCK_START_S 1000000000
/* The real wait for descriptors, whatever timeout was asked for. What this very process sent over
 * loopback arrives within it even on a busy host; whether it does so within 1 ms is chance. */
#define GRACE_MS 50
/* Length of the kernel's signal mask (not of the C library's sigset_t), for ppoll and its kin. */
#define MASK_BYTES 8

/* Ten days: libevent takes 0 s for "no time known", as others do. Atomic, since looks of several threads
 * must not be lost; valgrind runs them in turn. */
static uint64_t elapsed_ns = (uint64_t)864000 * NS_IN_S;

/* The harness looks for this line, with the worker's name in it: a library that could not be preloaded is
 * a mere warning of the dynamic linker, and would leave a figure that nothing pins. */
__attribute__((constructor)) static void say_so(void) {
	dprintf(STDERR_FILENO, "pinned clock of %s: %d ns a look\n", program_invocation_short_name, PINNED_CLOCK_STEP_NS);
}

static void advance(uint64_t ns) { __atomic_fetch_add(&elapsed_ns, ns, __ATOMIC_RELAXED); }

static uint64_t look(void) {
	return __atomic_add_fetch(&elapsed_ns, PINNED_CLOCK_STEP_NS, __ATOMIC_RELAXED);
}

static uint64_t ns_of(const struct timespec *time) {
	return (uint64_t)time->tv_sec * NS_IN_S + (uint64_t)time->tv_nsec;
}

/* ---- looks at a clock ---- */

static int is_day_clock(clockid_t clock) {
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
	uint64_t now_ns = look();
	time->tv_sec = (time_t)(now_ns / NS_IN_S) + (is_day_clock(clock) ? DAY_CLOCK_START_S : 0);
	time->tv_nsec = (long)(now_ns % NS_IN_S);
	return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *place) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (place)
		*place = now.tv_sec;
	return now.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
	if (base != TIME_UTC)
		return 0;
	clock_gettime(CLOCK_REALTIME, time);
	return base;
}

clock_t clock(void) { return (clock_t)(look() / (NS_IN_S / CLOCKS_PER_SEC)); }

/* ---- sleeps ---- */

int nanosleep(const struct timespec *wanted, struct timespec *left) {
	if (left)
		*left = (struct timespec){0, 0};
	advance(ns_of(wanted));
	return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left) {
	struct timespec now;
	if (!(flags & TIMER_ABSTIME))
		return nanosleep(wanted, left);
	clock_gettime(clock, &now);
	if (ns_of(wanted) > ns_of(&now))
		advance(ns_of(wanted) - ns_of(&now));
	return 0;
}

int usleep(useconds_t us) {
	advance((uint64_t)us * 1000);
	return 0;
}

unsigned sleep(unsigned seconds) {
	advance((uint64_t)seconds * NS_IN_S);
	return 0;
}

/* ---- waits for descriptors ---- */

/* One call of the kernel, whether what is waited for is there or on its way: the instructions up here
 * are the same. `timeout_ns` negative waits for ever, really so. */
static int real_ms(int64_t timeout_ns) { return timeout_ns < 0 ? -1 : timeout_ns == 0 ? 0 : GRACE_MS; }

static int waited(int ready, int64_t timeout_ns) {
	if (ready == 0 && timeout_ns > 0)
		advance((uint64_t)timeout_ns);
	return ready;
}

static int64_t ms_to_ns(int ms) { return ms < 0 ? -1 : (int64_t)ms * 1000000; }
static int64_t timeout_of(const struct timespec *time) { return time ? (int64_t)ns_of(time) : -1; }

static int wait_epoll(int fd, struct epoll_event *events, int most, int64_t timeout_ns, const sigset_t *mask) {
	long ready = syscall(SYS_epoll_pwait, fd, events, most, real_ms(timeout_ns), mask, MASK_BYTES);
	return waited((int)ready, timeout_ns);
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms) {
	return wait_epoll(fd, events, most, ms_to_ns(timeout_ms), NULL);
}

int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout_ms, const sigset_t *mask) {
	return wait_epoll(fd, events, most, ms_to_ns(timeout_ms), mask);
}

int epoll_pwait2(int fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask) {
	return wait_epoll(fd, events, most, timeout_of(timeout), mask);
}

static int wait_poll(struct pollfd *fds, nfds_t count, int64_t timeout_ns, const sigset_t *mask) {
	struct timespec real = {0, (long)real_ms(timeout_ns) * 1000000};
	long ready = syscall(SYS_ppoll, fds, count, timeout_ns < 0 ? NULL : &real, mask, MASK_BYTES);
	return waited((int)ready, timeout_ns);
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
	return wait_poll(fds, count, ms_to_ns(timeout_ms), NULL);
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
	return wait_poll(fds, count, timeout_of(timeout), mask);
}

static int wait_select(int count, fd_set *r, fd_set *w, fd_set *x, int64_t timeout_ns, const sigset_t *mask) {
	struct timespec real = {0, (long)real_ms(timeout_ns) * 1000000};
	struct {
		const sigset_t *mask;
		size_t bytes;
	} masked = {mask, MASK_BYTES};
	long ready = syscall(SYS_pselect6, count, r, w, x, timeout_ns < 0 ? NULL : &real, &masked);
	return waited((int)ready, timeout_ns);
}

int select(int count, fd_set *restrict r, fd_set *restrict w, fd_set *restrict x, struct timeval *restrict timeout) {
	int64_t ns = timeout ? (int64_t)timeout->tv_sec * NS_IN_S + (int64_t)timeout->tv_usec * 1000 : -1;
	return wait_select(count, r, w, x, ns, NULL);
}

int pselect(int count, fd_set *restrict r, fd_set *restrict w, fd_set *restrict x,
            const struct timespec *restrict timeout, const sigset_t *restrict mask) {
	return wait_select(count, r, w, x, timeout_of(timeout), mask);
}

/* ---- random numbers: one fixed stream (xorshift64*), from the kernel's and the C library's sources ---- */

static uint64_t state = 0x9e3779b97f4a7c15;

static void fill(void *buffer, size_t bytes) {
	unsigned char *next = buffer;
	while (bytes > 0) {
		state ^= state >> 12;
		state ^= state << 25;
		state ^= state >> 27;
		uint64_t value = state * 0x2545f4914f6cdd1d;
		size_t some = bytes < sizeof value ? bytes : sizeof value;
		memcpy(next, &value, some);
		next += some;
		bytes -= some;
	}
}

ssize_t getrandom(void *buffer, size_t bytes, unsigned flags) {
	(void)flags;
	fill(buffer, bytes);
	return (ssize_t)bytes;
}

int getentropy(void *buffer, size_t bytes) {
	if (bytes > 256) {
		errno = EIO;
		return -1;
	}
	fill(buffer, bytes);
	return 0;
}

/* glibc's ask the kernel without passing by getrandom. Declared here: older headers do not have them. */
uint32_t arc4random(void);
void arc4random_buf(void *buffer, size_t bytes);
uint32_t arc4random_uniform(uint32_t bound);

uint32_t arc4random(void) {
	uint32_t value;
	fill(&value, sizeof value);
	return value;
}

void arc4random_buf(void *buffer, size_t bytes) { fill(buffer, bytes); }

uint32_t arc4random_uniform(uint32_t bound) {
	/* Biased by less than 2^-32: nothing here is secret. */
	return (uint32_t)((uint64_t)arc4random() * bound >> 32);
}
