/*
 * Stands between native/device.c and the system in test builds: the compiler includes it first.
 * Paths lie below FAKE_ROOT, ioctls are answered here, and some names of files make calls fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int fake_interruptions;

static const char *fake_path(const char *path, char buffer[PATH_MAX])
{
  snprintf(buffer, PATH_MAX, "%s%s", FAKE_ROOT, path);
  return buffer;
}

static int fake_ends_with(const char *text, const char *end)
{
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static int fake_is(int fd, const char *name)
{
  char link[64], target[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, target, sizeof target - 1);
  if (length < 0)
    return 0;
  target[length] = '\0';
  return fake_ends_with(target, name);
}

static int fake_open(const char *path, int flags)
{
  char buffer[PATH_MAX];
  int twice = fake_ends_with(path, "/interrupted-twice") && fake_interruptions++ < 2;
  if (twice || fake_ends_with(path, "/interrupted")) {
    errno = EINTR;
    return -1;
  }
  return open(fake_path(path, buffer), flags);
}

static int fake_lstat(const char *path, struct stat *found)
{
  char buffer[PATH_MAX];
  return lstat(fake_path(path, buffer), found);
}

static int fake_mkdir(const char *path, mode_t mode)
{
  char buffer[PATH_MAX];
  return mkdir(fake_path(path, buffer), mode);
}

static int fake_rmdir(const char *path)
{
  char buffer[PATH_MAX];
  return rmdir(fake_path(path, buffer));
}

static ssize_t fake_write(int fd, const void *bytes, size_t length)
{
  return write(fd, bytes, fake_is(fd, "/short") ? length - 1 : length);
}

static int fake_close(int fd)
{
  int fails = fake_is(fd, "/close-fails");
  int result = close(fd);
  if (!fails)
    return result;
  errno = EBUSY;
  return -1;
}

/* Bytes 64 to 1087 of the exchange are what the report data gives, inverted and repeated. */
static int fake_tdreport(uint8_t *exchange)
{
  for (int i = 0; i < 1024; i++)
    exchange[64 + i] = (uint8_t)~exchange[i % 64];
  return 0;
}

/* Repeats the request; one that begins with E0 fails with the errno that follows, one with F0
   claims a length that is out of bounds, one with B0 is never answered. */
static int fake_nsm(uint64_t raw[4])
{
  const uint8_t *request = (const uint8_t *)(uintptr_t)raw[0];
  uint8_t *response = (uint8_t *)(uintptr_t)raw[2];
  while (request[0] == 0xB0)
    pause();
  if (request[0] == 0xE0 || raw[3] != 12288) {
    errno = request[1];
    return -1;
  }
  memset(response, 0xAA, 12288);
  memcpy(response, request, (size_t)raw[1]);
  raw[3] = request[0] == 0xF0 ? 1u << 20 : raw[1];
  return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *argument)
{
  if (request == 0xC4405401ul && fake_is(fd, "/dev/tdx_guest"))
    return fake_tdreport(argument);
  if (request == 0xC0200A00ul && fake_is(fd, "/dev/nsm"))
    return fake_nsm(argument);
  errno = ENOTTY;
  return -1;
}

#define open fake_open
#define lstat fake_lstat
#define mkdir fake_mkdir
#define rmdir fake_rmdir
#define write fake_write
#define close fake_close
#define ioctl fake_ioctl
