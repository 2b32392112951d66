
/* A library that misbehaves, in the way that the name of the measured workload says. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int
hostile_is_(const char *workload)
{
	char text[4096];
	ssize_t n;
	int fd = open("/proc/self/cmdline", O_RDONLY);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	for (ssize_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = ' ';
	text[n > 0 ? n : 0] = 0;
	return strstr(text, workload) != NULL;
}

/* What must not succeed ends the process: the run is then an error that says which. */
static void
hostile_succeeded_(const char *what)
{
	fprintf(stderr, "ESCAPED: %s\n", what);
	abort();
}

static void
hostile_quietly_(void)
{
	struct sockaddr_in sin;
	static char block[1 << 20];
	const char *folders[] = { HOSTILE_FOLDERS };
	char path[4096];
	int fd, files;

	if (getuid() == 0 || geteuid() == 0 || setuid(0) == 0)
		hostile_succeeded_("root");
	if (getenv("HOSTILE_SECRET"))
		hostile_succeeded_("environment");
	for (unsigned i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/hostile", folders[i]);
		if ((fd = open(path, O_CREAT | O_WRONLY, 0666)) >= 0)
			hostile_succeeded_(path);
	}
	if ((fd = open(HOSTILE_SECRET_FILE, O_RDONLY)) >= 0)
		hostile_succeeded_("a file of the user's");
	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_port = htons(HOSTILE_PORT);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0)
		hostile_succeeded_("a connection");
	close(fd);
	if (kill(getppid(), SIGKILL) == 0)
		hostile_succeeded_("a signal to the harness");
	if (setsid() != (pid_t)-1 || setpgid(0, 0) == 0)
		hostile_succeeded_("a process group of its own");
	/* As much as the private folder holds. */
	for (files = 0; files < 64; files++) {
		snprintf(path, sizeof(path), "/tmp/hostile-%d", files);
		fd = open(path, O_CREAT | O_WRONLY, 0666);
		signal(SIGXFSZ, SIG_IGN);
		while (fd >= 0 && write(fd, block, sizeof(block)) > 0)
			;
		close(fd);
	}
	for (files = 0; files < 64; files++) {
		snprintf(path, sizeof(path), "/tmp/hostile-%d", files);
		unlink(path);
	}
}

static void
hostile_(void)
{
	static int begun;
	if (begun++)
		return;
	if (hostile_is_("evbuffer.add_drain.64"))
		hostile_quietly_();
	if (hostile_is_("evbuffer.add_drain.4k"))
		for (;;)
			;
	if (hostile_is_("evbuffer.add_drain.16k")) {
		/* Children that outlive it, and as many as it gets. */
		for (int i = 0; i < 100000; i++) {
			pid_t pid = fork();
			if (pid < 0)
				break;
			if (pid == 0) {
				setsid();
				for (;;)
					pause();
			}
		}
		abort();
	}
	if (hostile_is_("evbuffer.queued.64")) {
		printf("{\"type\":\"batches\",\"samples\":[]}\n");
		fflush(stdout);
	}
	if (hostile_is_("evbuffer.queued.4k")) {
		for (;;) {
			char *p = mmap(NULL, 1 << 26, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (p == MAP_FAILED)
				abort();
			memset(p, 1, 1 << 26);
		}
	}
	if (hostile_is_("evbuffer.queued.16k"))
		kill(0, SIGKILL);
	if (hostile_is_("evbuffer.remove.64"))
		_exit(0);
}
