/*
 * The yardstick of quote-cost.ts: what a quote costs a program that does nothing else.
 *
 * quote COUNT: makes COUNT quotes, after COUNT/10 more to warm up, with the system calls cvmd makes,
 * and prints how long each took, in nanoseconds, one per line. Ends with status 1 when a call fails
 * or a quote does not hold its own report data.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* In a quote of version 4: behind the header, at 520 of the body. */
#define REPORT_DATA_AT (48 + 520)
#define REPORT_DATA_LENGTH 64

static char entry[64];
/* As much as cvmd asks for at once. */
static char text[64 * 1024], quote[64 * 1024];

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *attribute(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", entry, name);
	return path;
}

static size_t read_whole(const char *path, char *into, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (fd < 0)
		fail(path);
	while ((got = read(fd, into + length, room - length)) > 0)
		length += got;
	if (got < 0)
		fail(path);
	close(fd);
	return length;
}

static void write_once(const char *path, const void *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, bytes, length) != (ssize_t)length)
		fail(path);
	/* Only now does the kernel take the bytes. */
	if (close(fd) < 0)
		fail(path);
}

/* The provider is not read, as cvmd does that for its first quote only. */
static size_t make_quote(const char *data)
{
	size_t length;

	if (mkdir(entry, 0755) < 0)
		fail(entry);
	read_whole(attribute("generation"), text, sizeof(text));
	write_once(attribute("inblob"), data, REPORT_DATA_LENGTH);
	read_whole(attribute("generation"), text, sizeof(text));
	length = read_whole(attribute("outblob"), quote, sizeof(quote));
	read_whole(attribute("generation"), text, sizeof(text));
	if (rmdir(entry) < 0)
		fail(entry);
	return length;
}

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long count = argc == 2 ? atol(argv[1]) : 0;
	char data[REPORT_DATA_LENGTH] = { 0 };
	long i;

	for (i = -count / 10; i < count; i++) {
		long started, ended;
		size_t length;

		snprintf(data, sizeof(data), "C %d %ld", getpid(), i);
		started = now();
		snprintf(entry, sizeof(entry), "/sys/kernel/config/tsm/report/c-%d-%ld", getpid(), i);
		length = make_quote(data);
		ended = now();
		if (length < REPORT_DATA_AT + sizeof(data) ||
		    memcmp(quote + REPORT_DATA_AT, data, sizeof(data)) != 0) {
			fprintf(stderr, "quote %ld holds other report data\n", i);
			return 1;
		}
		if (i >= 0)
			printf("%ld\n", ended - started);
	}
	return 0;
}
