/*
 * Time as a case wants it. This program defines the functions of libc that tell the time and that wait;
 * libevent, linked into the same program, calls these. Until clock_start() they only pass on. After it,
 * time stands still; a wait that finds nothing ready moves it to its own end and returns at once. So a
 * case with timeouts of hours takes no time and always sees the same clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define SECOND_NS 1000000000LL
/* More waits than a case makes while time stands still: a loop that turns and turns. */
#define MOST_WAITS 4000
/* The same once a loop of the case has turned so: it will again, and each turn costs. */
#define MOST_WAITS_LATER 100

static int on;
static long long now_ns, wall_offset_ns;
/* When the last wait ended. */
static long long waited_ns;
/* For sockets of the network: one that is connected to itself; -1 where there are none but pipes and pairs. */
static int marker_fd = -1;
static unsigned long long ready_total, waits;
static long long turning_since_ns;
static unsigned long long most_waits = MOST_WAITS;
/* The one timerfd that is armed, and when it is due. */
static int timer_fd = -1;
static long long timer_due_ns;
/* Ends the loop: nothing will ever be ready (0), or it turns without end (1). */
static void (*stalled)(int why);

/* The next definition of a name after this program's. */
#define REAL(name) \
	static __typeof__(name) *real; \
	if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int clock_is_ours(clockid_t id) {
	return id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_MONOTONIC_RAW ||
	    id == CLOCK_BOOTTIME || id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
}

static long long wall_ns(void) { return now_ns + wall_offset_ns; }

int clock_gettime(clockid_t id, struct timespec *to) {
	long long ns;
	if (!on || !clock_is_ours(id))
		return (int)syscall(SYS_clock_gettime, id, to);
	ns = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? wall_ns() : now_ns;
	to->tv_sec = ns / SECOND_NS;
	to->tv_nsec = ns % SECOND_NS;
	return 0;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone) {
	if (!on)
		return (int)syscall(SYS_gettimeofday, to, zone);
	to->tv_sec = wall_ns() / SECOND_NS;
	to->tv_usec = wall_ns() % SECOND_NS / 1000;
	return 0;
}

time_t time(time_t *to) {
	struct timespec got;
	clock_gettime(CLOCK_REALTIME, &got);
	if (to)
		*to = got.tv_sec;
	return got.tv_sec;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old) {
	struct itimerspec none;
	long long ns = value->it_value.tv_sec * SECOND_NS + value->it_value.tv_nsec;
	if (!on)
		return (int)syscall(SYS_timerfd_settime, fd, flags, value, old);
	memset(&none, 0, sizeof(none));
	timer_fd = ns ? fd : -1;
	timer_due_ns = flags & TFD_TIMER_ABSTIME ? ns : now_ns + ns;
	/* The kernel's never runs by itself. This also takes back an expiry that nobody has read. */
	return (int)syscall(SYS_timerfd_settime, fd, 0, &none, old);
}

/* A wait of some kind that can be made again and again. */
struct wait {
	int (*once)(struct wait *, int real_ms);
	int fd, count;
	void *events;
	const sigset_t *mask;
	fd_set *sets[3], asked[3];
};

static int real_poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
	REAL(poll);
	return real(fds, count, timeout_ms);
}

/*
 * What was sent over loopback is often, not always, delivered before send() returns: a busy kernel
 * queues it. Its queue keeps the order, so what was sent before a marker is there when the marker is.
 * Several rounds, since what arrives may make the kernel send, as in the three steps of a connection.
 */
static void deliver(void) {
	int round;
	for (round = 0; round < ROUNDS; round++) {
		struct pollfd marker = {.fd = marker_fd, .events = POLLIN};
		char byte = 0;
		if (send(marker_fd, &byte, 1, 0) != 1 || real_poll(&marker, 1, 5000) != 1 ||
		    recv(marker_fd, &byte, 1, 0) != 1) {
			fprintf(stderr, "no loopback: a marker is lost\n");
			abort();
		}
	}
}

static int make_marker(void) {
	struct sockaddr_in address;
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) || getsockname(fd, (struct sockaddr *)&address, &len) ||
	    connect(fd, (struct sockaddr *)&address, len))
		return -1;
	return fd;
}

static int wait_or_move(struct wait *wait, long long timeout_ns) {
	long long due = timeout_ns < 0 ? -1 : now_ns + timeout_ns;
	int got;
	if (now_ns != turning_since_ns) {
		turning_since_ns = now_ns;
		waits = 0;
	}
	if (++waits >= most_waits) {
		waits = 0;
		most_waits = MOST_WAITS_LATER;
		stalled(1);
		return 0;
	}
	got = wait->once(wait, 0);
	if (got == 0 && marker_fd >= 0) {
		deliver();
		got = wait->once(wait, 0);
	}
	if (got != 0) {
		ready_total++;
		return got;
	}
	if (timer_fd >= 0 && timer_due_ns <= now_ns + (timeout_ns < 0 ? timer_due_ns : timeout_ns)) {
		struct itimerspec at_once;
		memset(&at_once, 0, sizeof(at_once));
		at_once.it_value.tv_nsec = 1;
		if (timer_due_ns > now_ns)
			now_ns = timer_due_ns;
		syscall(SYS_timerfd_settime, timer_fd, 0, &at_once, NULL);
		timer_fd = -1;
		got = wait->once(wait, 1000);
		ready_total += got != 0;
		return got;
	}
	if (due >= 0)
		now_ns = due;
	else
		stalled(0);
	return 0;
}

static int virtual_wait(struct wait *wait, long long timeout_ns) {
	int got = wait_or_move(wait, timeout_ns);
	waited_ns = now_ns;
	return got;
}

static long long from_ms(int ms) { return ms < 0 ? -1 : ms * 1000000LL; }
static long long from_spec(const struct timespec *spec) {
	return spec ? spec->tv_sec * SECOND_NS + spec->tv_nsec : -1;
}

static int epoll_once(struct wait *wait, int real_ms) {
	REAL(epoll_pwait);
	return real(wait->fd, wait->events, wait->count, real_ms, wait->mask);
}

static int epoll_ns(int fd, struct epoll_event *events, int count, long long timeout_ns, const sigset_t *mask) {
	struct wait wait = {.once = epoll_once, .fd = fd, .count = count, .events = events, .mask = mask};
	return virtual_wait(&wait, timeout_ns);
}

int epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms) {
	REAL(epoll_wait);
	return on ? epoll_ns(fd, events, count, from_ms(timeout_ms), NULL) : real(fd, events, count, timeout_ms);
}

int epoll_pwait(int fd, struct epoll_event *events, int count, int timeout_ms, const sigset_t *mask) {
	REAL(epoll_pwait);
	return on ? epoll_ns(fd, events, count, from_ms(timeout_ms), mask) : real(fd, events, count, timeout_ms, mask);
}

int epoll_pwait2(int fd, struct epoll_event *events, int count, const struct timespec *timeout, const sigset_t *mask) {
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
	return on ? epoll_ns(fd, events, count, from_spec(timeout), mask)
	    : (int)syscall(SYS_epoll_pwait2, fd, events, count, timeout, mask, 8);
}

static int poll_once(struct wait *wait, int real_ms) {
	REAL(poll);
	return real(wait->events, (nfds_t)wait->count, real_ms);
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
	struct wait wait = {.once = poll_once, .count = (int)count, .events = fds};
	return on ? virtual_wait(&wait, from_ms(timeout_ms)) : poll_once(&wait, timeout_ms);
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
	struct wait wait = {.once = poll_once, .count = (int)count, .events = fds};
	REAL(ppoll);
	return on ? virtual_wait(&wait, from_spec(timeout)) : real(fds, count, timeout, mask);
}

/* Sets larger than an fd_set, as libevent makes them, are copied whole. */
static size_t set_bytes(int fds) { return ((size_t)fds + 63) / 64 * 8; }

static int select_once(struct wait *wait, int real_ms) {
	struct timeval timeout = {real_ms / 1000, real_ms % 1000 * 1000};
	size_t bytes = set_bytes(wait->fd);
	char *asked = wait->events;
	int set;
	REAL(select);
	for (set = 0; set < 3; set++)
		if (wait->sets[set])
			memcpy(wait->sets[set], asked + set * bytes, bytes);
	return real(wait->fd, wait->sets[0], wait->sets[1], wait->sets[2], &timeout);
}

static int select_ns(int fds, fd_set *r, fd_set *w, fd_set *e, long long timeout_ns) {
	struct wait wait = {.once = select_once, .fd = fds, .sets = {r, w, e}};
	size_t bytes = set_bytes(fds);
	/* Not from libevent's allocator, whose calls are counted. */
	char *asked = malloc(3 * bytes + 1);
	int set, got, error;
	if (!asked)
		abort();
	for (set = 0; set < 3; set++)
		if (wait.sets[set])
			memcpy(asked + set * bytes, wait.sets[set], bytes);
	wait.events = asked;
	got = virtual_wait(&wait, timeout_ns);
	error = errno;
	free(asked);
	errno = error;
	return got;
}

int select(int fds, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e, struct timeval *restrict timeout) {
	REAL(select);
	long long ns = timeout ? timeout->tv_sec * SECOND_NS + timeout->tv_usec * 1000LL : -1;
	return on ? select_ns(fds, r, w, e, ns) : real(fds, r, w, e, timeout);
}

int pselect(int fds, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
    const struct timespec *restrict timeout, const sigset_t *restrict mask) {
	REAL(pselect);
	return on ? select_ns(fds, r, w, e, from_spec(timeout)) : real(fds, r, w, e, timeout, mask);
}

/* Random numbers, which evdns draws for its questions, are the same in every run, too. */
static void draw(unsigned char *to, size_t len) {
	static unsigned long long state;
	size_t at;
	for (at = 0; at < len; at++) {
		unsigned long long z = state += 0x9e3779b97f4a7c15ULL;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
		z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
		to[at] = (unsigned char)(z >> 56);
	}
}

ssize_t getrandom(void *to, size_t len, unsigned int flags) {
	if (!on)
		return syscall(SYS_getrandom, to, len, flags);
	draw(to, len);
	return (ssize_t)len;
}

int getentropy(void *to, size_t len) { return getrandom(to, len, 0) == (ssize_t)len ? 0 : -1; }

/* Those of the C library, where libevent uses them in place of its own. */
void arc4random_buf(void *to, size_t len) {
	if (getentropy(to, len))
		abort();
}

unsigned int arc4random(void) {
	unsigned int got;
	arc4random_buf(&got, sizeof(got));
	return got;
}

unsigned int arc4random_uniform(unsigned int bound) { return bound ? arc4random() % bound : 0; }

/* Names that a linker must not leave out, although only libevent calls them. */
static void *const kept[] = {
    (void *)clock_gettime, (void *)gettimeofday, (void *)time, (void *)timerfd_settime, (void *)epoll_wait,
    (void *)epoll_pwait, (void *)epoll_pwait2, (void *)poll, (void *)ppoll, (void *)select, (void *)pselect,
    (void *)getrandom, (void *)getentropy, (void *)arc4random_buf, (void *)arc4random, (void *)arc4random_uniform,
};

/*
 * From here on time is the case's, and starts at a date of its own. 0, or -1: loopback was asked for, and
 * there is none.
 */
int model_tests_clock_start(int network, void (*on_stall)(int why)) {
	void *const *volatile keep = kept;
	(void)keep[0];
	if (network && (marker_fd = make_marker()) < 0)
		return -1;
	now_ns = 5000 * SECOND_NS;
	wall_offset_ns = 1600000000 * SECOND_NS;
	stalled = on_stall;
	on = 1;
	return 0;
}

/* The case is over; time is everybody's again. */
void model_tests_clock_end(void) {
	on = 0;
	if (marker_fd >= 0)
		close(marker_fd);
	marker_fd = -1;
}

void model_tests_clock_advance(long long ns) { now_ns += ns; }
void model_tests_clock_move_wall(long long ns) { wall_offset_ns += ns; }
long long model_tests_clock_now(void) { return now_ns; }
long long model_tests_clock_waited(void) { return waited_ns; }
/* How many waits have found something ready. */
unsigned long long model_tests_clock_ready(void) { return ready_total; }
