/* Asks libevent, and the kernel, which backend a new base uses. Prints `name=value` lines. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

struct event_base;
struct event;
struct event_base *event_base_new(void);
const char *event_base_get_method(const struct event_base *);
int event_base_get_features(const struct event_base *);
const char **event_get_supported_methods(void);
const char *event_get_version(void);
void event_enable_debug_mode(void);
struct event *event_new(struct event_base *, int, short, void (*)(int, short, void *), void *);
int event_assign(struct event *, struct event_base *, int, short, void (*)(int, short, void *), void *);
int event_add(struct event *, const struct timeval *);

/* Kinds of anonymous descriptors, as the kernel names them. */
static void descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	if (folder == NULL) {
		printf("descriptors=unknown\n");
		return;
	}
	while ((entry = readdir(folder)) != NULL) {
		char path[300], target[300];
		ssize_t length;
		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		if (length <= 0)
			continue;
		target[length] = 0;
		if (!strncmp(target, "anon_inode:[", 12)) {
			target[length - 1] = 0;
			printf("descriptor=%s\n", target + 12);
		}
	}
	closedir(folder);
}

static void never(int fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	(void)argument;
}

/* Debug mode stops a program that assigns an event which is pending; without it, nobody notices. */
static int stops_misuse(struct event_base *base)
{
	int status;
	pid_t child;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		struct timeval late = { 1000, 0 };
		struct event *event = event_new(base, -1, 0, never, NULL);
		close(2);
		if (event == NULL || event_add(event, &late))
			_exit(0);
		event_assign(event, base, -1, 0, never, NULL);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	struct event_base *base;
	const char **method;
	/* As regress does. */
	if (getenv("EVENT_DEBUG_MODE"))
		event_enable_debug_mode();
	base = event_base_new();
	printf("version=%s\n", event_get_version());
	for (method = event_get_supported_methods(); *method; ++method)
		printf("supported=%s\n", *method);
	if (base == NULL) {
		printf("method=none\n");
		return 0;
	}
	printf("method=%s\n", event_base_get_method(base));
	printf("features=%d\n", event_base_get_features(base));
	descriptors();
	printf("debug=%d\n", stops_misuse(base));
	fflush(stdout);
	/* Leaks are not its business. */
	_exit(0);
}
