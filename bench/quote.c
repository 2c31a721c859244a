/*
 * The yardstick of quote.ts: what one quote through configfs-tsm costs a program that does nothing
 * else.
 *
 * quote TREE COUNT: makes COUNT quotes, after COUNT/10 more to warm up, with the system calls cvmd
 * makes, and prints how long each took, in nanoseconds, one per line. TREE/report is where entries
 * are made; TREE/report/attributes holds the files of all of them.
 *
 * quote TREE serve MICROSECONDS: is the device. TREE/report/attributes/outblob becomes a FIFO, and whoever
 * reads it gets what it held before, so much later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char buffer[64 * 1024];

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static size_t read_whole(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (fd < 0)
		fail(path);
	while ((got = read(fd, buffer + length, sizeof(buffer) - length)) > 0)
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
	if (close(fd) < 0)
		fail(path);
}

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void make_fifo(const char *path)
{
	/* Renamed over the old one, so that nobody finds none, or reads two quotes as one. */
	if (mkfifo("fifo", 0600) < 0 || rename("fifo", path) < 0)
		fail(path);
}

static void serve(const char *path, long microseconds)
{
	struct timespec delay = { microseconds / 1000000, microseconds % 1000000 * 1000 };
	size_t length = read_whole(path);

	make_fifo(path);
	for (;;) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);

		if (fd < 0)
			fail(path);
		nanosleep(&delay, NULL);
		if (write(fd, buffer, length) != (ssize_t)length)
			fail(path);
		make_fifo(path);
		close(fd);
	}
}

static void measure(long count)
{
	char entry[256], data[64] = { 0 };
	long i;

	for (i = -count / 10; i < count; i++) {
		long started = now();

		snprintf(entry, sizeof(entry), "report/c-%d-%ld", getpid(), i);
		if (mkdir(entry, 0755) < 0)
			fail(entry);
		read_whole("report/attributes/generation");
		write_once("report/attributes/inblob", data, sizeof(data));
		read_whole("report/attributes/generation");
		read_whole("report/attributes/outblob");
		read_whole("report/attributes/generation");
		if (rmdir(entry) < 0)
			fail(entry);
		if (i >= 0)
			printf("%ld\n", now() - started);
	}
}

int main(int argc, char **argv)
{
	if (argc < 3 || chdir(argv[1]) < 0)
		fail("usage: quote TREE COUNT | quote TREE serve MICROSECONDS");
	if (argc == 4 && strcmp(argv[2], "serve") == 0)
		serve("report/attributes/outblob", atol(argv[3]));
	measure(atol(argv[2]));
	return 0;
}
