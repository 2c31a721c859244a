/*
 * The system calls that cvmd makes on attestation devices, as a Node-API addon.
 *
 * Reading order: the list of paths (all that this file can ever open), the calls, the lanes (a
 * thread for each device), the JavaScript side. native/README.md says how to build and audit it.
 *
 * The JavaScript thread only copies arguments and results. A call runs on its lane's thread, so a
 * device that never answers holds up that device alone. Threads are detached and never joined: a
 * process can end, and a Node-API environment can go away, while a call is still in the kernel.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <node_api.h>

#define MAX_PATH_BYTES 512
#define MAX_READ_BYTES (16u << 20)
#define MAX_WRITE_BYTES 4096
#define MAX_LIST_BYTES (1u << 20)
#define MAX_WAITING 1024 /* calls, on each lane */
#define MAX_LOCKS 16
#define READ_CHUNK (64u << 10)
#define RETRIES 3 /* of a call that was interrupted and had no effect */

/* ---- The list of paths ------------------------------------------------------------------- */

enum { STAT, LIST, READ, WRITE, MKDIR, RMDIR, TDREPORT, NSM, LOCK, UNLOCK };

enum { ON_NSM, ON_TDX, ON_TSM, ON_TSM_LOCK, ON_REGISTERS, ON_ACPI, ON_FACTS, LANES };

#define MAY(operation) (1u << (operation))
#define MAY_LOOK (MAY(STAT) | MAY(LIST))
#define MAY_READ (MAY(STAT) | MAY(READ))
#define MAY_LOCK (MAY(LOCK) | MAY(UNLOCK))

struct rule {
  const char *pattern; /* `*` stands for one whole segment */
  unsigned operations;
  int lane;
};

static const struct rule RULES[] = {
  /* Nitro Secure Module: drivers/misc/nsm.c */
  {"/dev/nsm", MAY(STAT) | MAY(NSM), ON_NSM},

  /* TDREPORT: include/uapi/linux/tdx-guest.h */
  {"/dev/tdx_guest", MAY(STAT) | MAY(TDREPORT), ON_TDX},

  /* Quotes: Documentation/ABI/testing/configfs-tsm-report */
  {"/sys/kernel/config/tsm/report", MAY_LOOK, ON_TSM},
  {"/sys/kernel/config/tsm/report/*", MAY_LOOK | MAY(MKDIR) | MAY(RMDIR), ON_TSM},
  {"/sys/kernel/config/tsm/report/*/*", MAY_READ | MAY(WRITE) | MAY_LOCK, ON_TSM},

  /* Registers: Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest. RTMR0 and RTMR1
     belong to the firmware. */
  {"/sys/devices/virtual/misc/tdx_guest/measurements", MAY_LOOK, ON_REGISTERS},
  {"/sys/devices/virtual/misc/tdx_guest/measurements/*", MAY_READ, ON_REGISTERS},
  {"/sys/devices/virtual/misc/tdx_guest/measurements/rtmr2:sha384", MAY(WRITE), ON_REGISTERS},
  {"/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384", MAY(WRITE), ON_REGISTERS},

  /* The boot event log: Documentation/ABI/testing/sysfs-firmware-acpi */
  {"/sys/firmware/acpi/tables", MAY_LOOK, ON_ACPI},
  {"/sys/firmware/acpi/tables/*", MAY_LOOK | MAY_READ, ON_ACPI},
  {"/sys/firmware/acpi/tables/data/*", MAY_READ, ON_ACPI},

  /* What the machine is. Nothing here names a person or a serial number. */
  {"/sys/class/dmi/id/bios_vendor", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/bios_version", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/board_vendor", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/board_name", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/chassis_asset_tag", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/chassis_vendor", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/product_name", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/product_version", MAY_READ, ON_FACTS},
  {"/sys/class/dmi/id/sys_vendor", MAY_READ, ON_FACTS},
  {"/sys/bus/pci/devices", MAY_LOOK, ON_FACTS},
  {"/sys/bus/pci/devices/*/class", MAY_READ, ON_FACTS},
  {"/sys/bus/pci/devices/*/vendor", MAY_READ, ON_FACTS},
  {"/sys/bus/pci/devices/*/device", MAY_READ, ON_FACTS},
  {"/sys/bus/pci/devices/*/subsystem_vendor", MAY_READ, ON_FACTS},
  {"/sys/bus/pci/devices/*/subsystem_device", MAY_READ, ON_FACTS},
  {"/sys/bus/pci/devices/*/numa_node", MAY_READ, ON_FACTS},
  {"/dev/nvidiactl", MAY(STAT), ON_FACTS},
  {"/dev/kfd", MAY(STAT), ON_FACTS},
  {"/dev/dri/renderD128", MAY(STAT), ON_FACTS},
  {"/dev/tdx-guest", MAY(STAT), ON_FACTS},
  {"/dev/sev-guest", MAY(STAT), ON_FACTS},
  {"/proc/cpuinfo", MAY_READ, ON_FACTS},
  {"/proc/driver/nvidia/version", MAY_READ, ON_FACTS},
  {"/proc/loadavg", MAY_READ, ON_FACTS},
  {"/proc/meminfo", MAY_READ, ON_FACTS},
  {"/proc/modules", MAY_READ, ON_FACTS},
  {"/proc/self/limits", MAY_READ, ON_FACTS},
  {"/proc/self/mounts", MAY_READ, ON_FACTS},
  {"/proc/uptime", MAY_READ, ON_FACTS},
};

/* Absolute, printable ASCII, and no segment is empty, `.` or `..`. */
static bool is_plain(const char *path)
{
  for (const char *c = path; *c; c++)
    if (*c <= ' ' || *c > '~')
      return false;
  while (*path == '/') {
    path++;
    size_t length = strcspn(path, "/");
    if (length == 0 || strncmp(path, ".", length) == 0 || strncmp(path, "..", length) == 0)
      return false;
    path += length;
  }
  return *path == '\0';
}

static bool matches(const char *pattern, const char *path)
{
  for (; *pattern; pattern++) {
    if (*pattern == '*')
      path += strcspn(path, "/");
    else if (*pattern != *path++)
      return false;
  }
  return *path == '\0';
}

/* The rule that allows an operation on a path; NULL when none does. */
static const struct rule *find_rule(const char *path, int operation)
{
  if (!is_plain(path))
    return NULL;
  for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++)
    if ((RULES[i].operations & MAY(operation)) && matches(RULES[i].pattern, path))
      return &RULES[i];
  return NULL;
}

/* ---- The calls: each returns 0 or an errno ------------------------------------------------- */

/* One Node-API environment: the main thread of a process, or one of its workers. */
struct environment {
  napi_threadsafe_function channel; /* NULL once the environment is going away */
  unsigned references;              /* its own and one for each job */
};

struct job {
  struct job *next;
  struct environment *environment;
  napi_deferred deferred;
  int operation;
  int error;         /* errno */
  const char *why;   /* what an errno does not say; may be NULL */
  const char *kind;  /* STAT */
  uint32_t number;   /* READ: limit in bytes; LOCK, UNLOCK: which lock */
  uint8_t *out;      /* READ, LIST (names, each ended by NUL), TDREPORT, NSM */
  size_t out_length;
  size_t in_length;
  char path[MAX_PATH_BYTES + 1];
  uint8_t in[];      /* WRITE, TDREPORT, NSM */
};

struct lock {
  struct environment *holder; /* NULL when the place is free */
  uint32_t number;
  int fd;
};

/* Guards everything shared between threads: environments, lanes and locks. */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct lock locks[MAX_LOCKS];
static uint32_t last_lock;

/* Opens a path of the list; a link as its last segment is refused. */
static int open_path(const char *path, int flags)
{
  for (int tries = 0;; tries++) {
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
    if (fd >= 0 || errno != EINTR || tries == RETRIES)
      return fd;
  }
}

static int do_stat(struct job *job)
{
  struct stat found;
  if (lstat(job->path, &found) != 0)
    return errno;
  job->kind = S_ISREG(found.st_mode)   ? "file"
              : S_ISDIR(found.st_mode) ? "directory"
              : S_ISCHR(found.st_mode) ? "character-device"
                                       : "other";
  return 0;
}

static int add_name(struct job *job, const char *name)
{
  size_t length = strlen(name) + 1;
  if (job->out_length + length > MAX_LIST_BYTES)
    return EFBIG;
  uint8_t *grown = realloc(job->out, job->out_length + length);
  if (!grown)
    return ENOMEM;
  memcpy(grown + job->out_length, name, length);
  job->out = grown;
  job->out_length += length;
  return 0;
}

static int do_list(struct job *job)
{
  int fd = open_path(job->path, O_RDONLY | O_DIRECTORY);
  if (fd < 0)
    return errno;
  DIR *folder = fdopendir(fd);
  if (!folder) {
    int error = errno;
    close(fd);
    return error;
  }
  int error = 0;
  while (!error) {
    errno = 0;
    struct dirent *entry = readdir(folder);
    if (!entry) {
      error = errno;
      break;
    }
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      error = add_name(job, entry->d_name);
  }
  closedir(folder);
  return error;
}

/* Reads to the end; the buffer grows up to one byte more than is allowed, which tells EFBIG. */
static int read_to_end(struct job *job, int fd)
{
  size_t most = (size_t)job->number + 1;
  size_t room = 0;
  int interrupted = 0;
  for (;;) {
    if (job->out_length == room) {
      if (room == most)
        return EFBIG;
      room = room == 0 ? READ_CHUNK : room * 2;
      if (room > most)
        room = most;
      uint8_t *grown = realloc(job->out, room);
      if (!grown)
        return ENOMEM;
      job->out = grown;
    }
    ssize_t got = read(fd, job->out + job->out_length, room - job->out_length);
    if (got == 0)
      return 0;
    if (got > 0)
      job->out_length += (size_t)got;
    else if (errno != EINTR || interrupted++ == RETRIES)
      return errno;
  }
}

static int do_read(struct job *job)
{
  int fd = open_path(job->path, O_RDONLY);
  if (fd < 0)
    return errno;
  int error = read_to_end(job, fd);
  close(fd);
  return error;
}

/* One write(2), never repeated: on these files a part of the bytes has effects of its own. */
static int do_write(struct job *job)
{
  int fd = open_path(job->path, O_WRONLY);
  if (fd < 0)
    return errno;
  ssize_t put = write(fd, job->in, job->in_length);
  int error = put < 0 ? errno : (size_t)put < job->in_length ? EIO : 0;
  /* configfs takes the bytes when the file is closed. */
  if (close(fd) != 0 && !error)
    error = errno;
  return error;
}

/* One ioctl on a device that is opened for it. */
static int control(const char *path, unsigned long request, void *argument)
{
  int fd = open_path(path, O_RDWR);
  if (fd < 0)
    return errno;
  int error = ioctl(fd, request, argument) < 0 ? errno : 0;
  close(fd);
  return error;
}

/* struct tdx_report_req of include/uapi/linux/tdx-guest.h */
struct tdx_report {
  uint8_t report_data[64];
  uint8_t report[1024];
};
#define TDX_CMD_GET_REPORT0 0xC4405401ul
_Static_assert(_IOWR('T', 1, struct tdx_report) == TDX_CMD_GET_REPORT0, "layout of TDREPORT");

static int do_tdreport(struct job *job)
{
  struct tdx_report exchange = {{0}, {0}};
  memcpy(exchange.report_data, job->in, sizeof exchange.report_data);
  int error = control(job->path, TDX_CMD_GET_REPORT0, &exchange);
  if (error)
    return error;
  job->out = malloc(sizeof exchange.report);
  if (!job->out)
    return ENOMEM;
  memcpy(job->out, exchange.report, sizeof exchange.report);
  job->out_length = sizeof exchange.report;
  return 0;
}

/* struct nsm_raw of include/uapi/linux/nsm.h */
struct nsm_raw {
  uint64_t request, request_length;
  uint64_t response, response_length; /* room, then what came */
};
#define NSM_IOCTL_RAW 0xC0200A00ul
#define NSM_REQUEST_MAX 4096
#define NSM_RESPONSE_MAX 12288
_Static_assert(_IOWR(0x0A, 0, struct nsm_raw) == NSM_IOCTL_RAW, "layout of NSM requests");

static int do_nsm(struct job *job)
{
  /* The driver cuts an answer off without a word where there is less room. */
  job->out = calloc(1, NSM_RESPONSE_MAX);
  if (!job->out)
    return ENOMEM;
  struct nsm_raw raw = {(uintptr_t)job->in, job->in_length, (uintptr_t)job->out, NSM_RESPONSE_MAX};
  int error = control(job->path, NSM_IOCTL_RAW, &raw);
  if (error)
    return error;
  /* Linux 6.12 hands on whatever length the host claims. */
  job->out_length =
    raw.response_length < NSM_RESPONSE_MAX ? (size_t)raw.response_length : NSM_RESPONSE_MAX;
  return 0;
}

static int keep_lock(struct job *job, int fd)
{
  if (!job->environment->channel)
    return ECANCELED;
  for (struct lock *lock = locks; lock < locks + MAX_LOCKS; lock++)
    if (!lock->holder) {
      last_lock = last_lock == UINT32_MAX ? 1 : last_lock + 1;
      *lock = (struct lock){job->environment, last_lock, fd};
      job->number = last_lock;
      return 0;
    }
  return ENOLCK;
}

static int do_lock(struct job *job)
{
  int fd = open_path(job->path, O_WRONLY);
  if (fd < 0)
    return errno;
  int error = 0;
  for (int tries = 0; flock(fd, LOCK_EX) != 0; tries++) {
    error = errno;
    if (error != EINTR || tries == RETRIES)
      goto failed;
  }
  pthread_mutex_lock(&guard);
  error = keep_lock(job, fd);
  pthread_mutex_unlock(&guard);
  if (!error)
    return 0;
failed:
  close(fd);
  return error;
}

static int do_unlock(struct job *job)
{
  int fd = -1;
  pthread_mutex_lock(&guard);
  for (struct lock *lock = locks; lock < locks + MAX_LOCKS; lock++)
    if (lock->holder == job->environment && lock->number == job->number) {
      fd = lock->fd;
      lock->holder = NULL;
    }
  pthread_mutex_unlock(&guard);
  if (fd < 0)
    return EBADF;
  return close(fd) == 0 ? 0 : errno;
}

static int perform(struct job *job)
{
  switch (job->operation) {
  case STAT: return do_stat(job);
  case LIST: return do_list(job);
  case READ: return do_read(job);
  case WRITE: return do_write(job);
  case MKDIR: return mkdir(job->path, 0700) == 0 ? 0 : errno;
  case RMDIR: return rmdir(job->path) == 0 ? 0 : errno;
  case TDREPORT: return do_tdreport(job);
  case NSM: return do_nsm(job);
  case LOCK: return do_lock(job);
  case UNLOCK: return do_unlock(job);
  default: return ENOSYS;
  }
}

/* ---- Lanes: one thread for each device, one call at a time --------------------------------- */

struct lane {
  const char *name; /* of the thread, at most 15 bytes */
  pthread_cond_t work;
  struct job *first, *last;
  unsigned waiting;
  bool running; /* whether its thread was started */
};

#define LANE(name) {name, PTHREAD_COND_INITIALIZER, NULL, NULL, 0, false}
static struct lane lanes[LANES] = {
  [ON_NSM] = LANE("cvmd-nsm"),
  [ON_TDX] = LANE("cvmd-tdx"),
  [ON_TSM] = LANE("cvmd-tsm"),
  [ON_TSM_LOCK] = LANE("cvmd-tsm-lock"),
  [ON_REGISTERS] = LANE("cvmd-registers"),
  [ON_ACPI] = LANE("cvmd-acpi"),
  [ON_FACTS] = LANE("cvmd-facts"),
};

/* With the guard held. */
static void release_environment(struct environment *environment)
{
  if (--environment->references == 0)
    free(environment);
}

/* With the guard held. */
static void free_job(struct job *job)
{
  release_environment(job->environment);
  free(job->out);
  free(job);
}

/* With the guard held, which keeps the channel: its environment takes it away under the guard. */
static void deliver(struct job *job)
{
  napi_threadsafe_function channel = job->environment->channel;
  if (!channel || napi_call_threadsafe_function(channel, job, napi_tsfn_nonblocking) != napi_ok)
    free_job(job);
}

static void *run_lane(void *argument)
{
  struct lane *lane = argument;
  prctl(PR_SET_NAME, lane->name, 0, 0, 0);
  pthread_mutex_lock(&guard);
  for (;;) {
    while (!lane->first)
      pthread_cond_wait(&lane->work, &guard);
    struct job *job = lane->first;
    lane->first = job->next;
    lane->waiting--;
    pthread_mutex_unlock(&guard);
    job->error = perform(job);
    pthread_mutex_lock(&guard);
    deliver(job);
  }
  return NULL;
}

/* With the guard held. Signals are for the threads of the runtime. */
static int start_lane(struct lane *lane)
{
  pthread_t thread;
  pthread_attr_t attributes;
  sigset_t all, before;
  int error = pthread_attr_init(&attributes);
  if (error)
    return error;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  error = pthread_create(&thread, &attributes, run_lane, lane);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  lane->running = error == 0;
  return error;
}

/* With the guard held. Waiting for a lock must not keep its holder's calls waiting. */
static int enqueue(struct job *job)
{
  const struct rule *rule = find_rule(job->path, job->operation);
  if (!rule) {
    job->why = "not in the addon's list of paths";
    return EACCES;
  }
  struct lane *lane = &lanes[job->operation == LOCK ? ON_TSM_LOCK : rule->lane];
  if (lane->waiting == MAX_WAITING) {
    job->why = "too many calls wait for this device";
    return EAGAIN;
  }
  int error = lane->running ? 0 : start_lane(lane);
  if (error)
    return error;
  if (lane->first)
    lane->last->next = job;
  else
    lane->first = job;
  lane->last = job;
  lane->waiting++;
  pthread_cond_signal(&lane->work);
  return 0;
}

/* ---- The JavaScript side --------------------------------------------------------------------- */

static const char *errno_name(int error, char *other, size_t size)
{
#define NAME(code) \
  case code: return #code;
  switch (error) {
    NAME(E2BIG) NAME(EACCES) NAME(EAGAIN) NAME(EBADF) NAME(EBADMSG) NAME(EBUSY) NAME(ECANCELED)
    NAME(ECOMM) NAME(ECONNREFUSED) NAME(ECONNRESET) NAME(EDEADLK) NAME(EDOM) NAME(EEXIST)
    NAME(EFAULT) NAME(EFBIG) NAME(EHOSTDOWN) NAME(EILSEQ) NAME(EINPROGRESS) NAME(EINTR)
    NAME(EINVAL) NAME(EIO) NAME(EISDIR) NAME(EKEYREJECTED) NAME(ELOOP) NAME(EMFILE) NAME(EMLINK)
    NAME(EMSGSIZE) NAME(ENAMETOOLONG) NAME(ENFILE) NAME(ENOBUFS) NAME(ENODATA) NAME(ENODEV)
    NAME(ENOENT) NAME(ENOKEY) NAME(ENOLCK) NAME(ENOMEM) NAME(ENOMSG) NAME(ENOSPC) NAME(ENOSYS)
    NAME(ENOTCONN) NAME(ENOTDIR) NAME(ENOTEMPTY) NAME(ENOTSOCK) NAME(ENOTSUP) NAME(ENOTTY)
    NAME(ENXIO) NAME(EOVERFLOW) NAME(EPERM) NAME(EPIPE) NAME(EPROTO) NAME(ERANGE) NAME(EREMOTEIO)
    NAME(EROFS) NAME(ESHUTDOWN) NAME(ESPIPE) NAME(ESRCH) NAME(ESTALE) NAME(ETIME)
    NAME(ETIMEDOUT) NAME(ETXTBSY) NAME(EUSERS) NAME(EXDEV)
  }
#undef NAME
  snprintf(other, size, "E%d", error);
  return other;
}

/* An Error with the errno's name as its code. */
static napi_value error_of(napi_env env, int error, const char *why)
{
  char other[16];
  const char *name = errno_name(error, other, sizeof other);
  napi_value code, message, result = NULL;
  if (napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &code) == napi_ok &&
      napi_create_string_utf8(env, why ? why : name, NAPI_AUTO_LENGTH, &message) == napi_ok)
    napi_create_error(env, code, message, &result);
  return result;
}

static napi_status bytes_of(napi_env env, const struct job *job, napi_value *result)
{
  napi_value buffer;
  void *data = NULL;
  napi_status status = napi_create_arraybuffer(env, job->out_length, &data, &buffer);
  if (status != napi_ok)
    return status;
  if (job->out_length > 0)
    memcpy(data, job->out, job->out_length);
  return napi_create_typedarray(env, napi_uint8_array, job->out_length, buffer, 0, result);
}

static napi_status names_of(napi_env env, const struct job *job, napi_value *result)
{
  napi_status status = napi_create_array(env, result);
  uint32_t index = 0;
  for (size_t at = 0; status == napi_ok && at < job->out_length;) {
    const char *name = (const char *)job->out + at;
    size_t length = strlen(name);
    napi_value text;
    status = napi_create_string_utf8(env, name, length, &text);
    if (status == napi_ok)
      status = napi_set_element(env, *result, index++, text);
    at += length + 1;
  }
  return status;
}

static napi_status result_of(napi_env env, const struct job *job, napi_value *result)
{
  switch (job->operation) {
  case STAT: return napi_create_string_utf8(env, job->kind, NAPI_AUTO_LENGTH, result);
  case LIST: return names_of(env, job, result);
  case READ:
  case TDREPORT:
  case NSM: return bytes_of(env, job, result);
  case LOCK: return napi_create_uint32(env, job->number, result);
  default: return napi_get_undefined(env, result);
  }
}

/* On the JavaScript thread; `env` is NULL when it is going away. */
static void settle(napi_env env, napi_value unused, void *context, void *data)
{
  (void)unused;
  (void)context;
  struct job *job = data;
  if (env) {
    napi_value result = NULL;
    if (!job->error && result_of(env, job, &result) != napi_ok)
      job->error = ENOMEM;
    if (job->error)
      napi_reject_deferred(env, job->deferred, error_of(env, job->error, job->why));
    else
      napi_resolve_deferred(env, job->deferred, result);
  }
  pthread_mutex_lock(&guard);
  free_job(job);
  pthread_mutex_unlock(&guard);
}

/* The second argument of a function. */
enum argument { NOTHING, NUMBER, BYTES };

struct function {
  const char *name;
  int operation;
  enum argument argument;
  uint32_t least, most; /* of the number, or of the bytes' length */
};

static const struct function FUNCTIONS[] = {
  {"stat", STAT, NOTHING, 0, 0},
  {"list", LIST, NOTHING, 0, 0},
  {"read", READ, NUMBER, 0, MAX_READ_BYTES},
  {"write", WRITE, BYTES, 0, MAX_WRITE_BYTES},
  {"mkdir", MKDIR, NOTHING, 0, 0},
  {"rmdir", RMDIR, NOTHING, 0, 0},
  {"tdreport", TDREPORT, BYTES, 64, 64},
  {"nsm", NSM, BYTES, 1, NSM_REQUEST_MAX},
  {"lock", LOCK, NOTHING, 0, 0},
  {"unlock", UNLOCK, NUMBER, 1, UINT32_MAX},
};

static bool number_in(napi_env env, napi_value value, const struct function *f, uint32_t *number)
{
  double given = 0;
  if (napi_get_value_double(env, value, &given) != napi_ok)
    return false;
  /* The other way round NaN would pass. */
  if (!(given >= f->least && given <= f->most))
    return false;
  *number = (uint32_t)given;
  return *number == given;
}

static bool bytes_in(napi_env env, napi_value value, const struct function *f, void **data,
                     size_t *length)
{
  napi_typedarray_type type;
  bool typed = false;
  if (napi_is_typedarray(env, value, &typed) != napi_ok || !typed ||
      napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) != napi_ok)
    return false;
  return type == napi_uint8_array && *length >= f->least && *length <= f->most &&
         (*data || *length == 0);
}

/* A job from the arguments of a function; NULL when they are not what it takes. */
static struct job *job_from(napi_env env, const struct function *f, napi_value first,
                            napi_value second, const char **complaint)
{
  uint32_t number = 0;
  void *data = NULL;
  size_t length = 0;
  napi_valuetype type;
  *complaint = "the first argument is not a string";
  if (napi_typeof(env, first, &type) != napi_ok || type != napi_string)
    return NULL;
  *complaint = "the second argument is not an integer in range";
  if (f->argument == NUMBER && !number_in(env, second, f, &number))
    return NULL;
  *complaint = "the second argument is not a Uint8Array of a length in range";
  if (f->argument == BYTES && !bytes_in(env, second, f, &data, &length))
    return NULL;
  *complaint = "out of memory";
  struct job *job = calloc(1, sizeof *job + length);
  if (!job)
    return NULL;
  size_t path_length = 0;
  job->operation = f->operation;
  job->number = number;
  job->in_length = length;
  if (length > 0)
    memcpy(job->in, data, length);
  /* A path that is too long, or has a NUL in it, becomes one that is in no list: the empty one. */
  if (napi_get_value_string_utf8(env, first, NULL, 0, &path_length) != napi_ok ||
      path_length > MAX_PATH_BYTES ||
      napi_get_value_string_utf8(env, first, job->path, sizeof job->path, NULL) != napi_ok ||
      strlen(job->path) != path_length)
    job->path[0] = '\0';
  return job;
}

/* Every function with a path: checks, queues, and returns a promise. */
static napi_value call(napi_env env, napi_callback_info info)
{
  napi_value arguments[2] = {NULL, NULL}, promise = NULL;
  size_t count = 2;
  void *function = NULL, *environment = NULL;
  const char *complaint = NULL;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, &function) != napi_ok ||
      napi_get_instance_data(env, &environment) != napi_ok || !environment)
    return NULL;
  struct job *job = job_from(env, function, arguments[0], arguments[1], &complaint);
  if (!job) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", complaint);
    return NULL;
  }
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) {
    free(job);
    return NULL;
  }
  job->environment = environment;
  pthread_mutex_lock(&guard);
  job->environment->references++;
  int error = enqueue(job);
  pthread_mutex_unlock(&guard);
  if (error) {
    job->error = error;
    settle(env, NULL, NULL, job);
  }
  return promise;
}

/* What the kernel knows of who connected: struct ucred of unix(7). */
struct peer {
  pid_t process;
  uid_t user;
  gid_t group;
};

/* Only a connected Unix socket has somebody at its other end. A listening one would name us. */
static int peer_of(int fd, struct peer *peer)
{
  int domain = 0, listening = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) ||
      getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size))
    return errno;
  if (domain != AF_UNIX || listening)
    return ENOTCONN;
  size = sizeof *peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size))
    return errno;
  return size == sizeof *peer && peer->user != (uid_t)-1 ? 0 : ENOTCONN;
}

static const struct function PEER = {"peer", 0, NUMBER, 0, INT_MAX};

/* The one function that is done at once: nothing in it waits. Gives the user's and group's id. */
static napi_value call_peer(napi_env env, napi_callback_info info)
{
  napi_value argument = NULL, user, group, result = NULL;
  size_t count = 1;
  uint32_t fd = 0;
  struct peer peer = {0};
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok)
    return NULL;
  if (!number_in(env, argument, &PEER, &fd)) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "the argument is not a descriptor");
    return NULL;
  }
  int error = peer_of((int)fd, &peer);
  if (error) {
    napi_throw(env, error_of(env, error, NULL));
    return NULL;
  }
  if (napi_create_array(env, &result) != napi_ok ||
      napi_create_uint32(env, peer.user, &user) != napi_ok ||
      napi_create_uint32(env, peer.group, &group) != napi_ok ||
      napi_set_element(env, result, 0, user) != napi_ok ||
      napi_set_element(env, result, 1, group) != napi_ok)
    return NULL;
  return result;
}

static bool add_function(napi_env env, napi_value exports, const struct function *f,
                         napi_callback body)
{
  napi_value function;
  return napi_create_function(env, f->name, NAPI_AUTO_LENGTH, body, (void *)f, &function) ==
           napi_ok &&
         napi_set_named_property(env, exports, f->name, function) == napi_ok;
}

/* Runs before the environment closes the channel, since cleanup goes backwards. */
static void leave(void *data)
{
  struct environment *environment = data;
  pthread_mutex_lock(&guard);
  environment->channel = NULL;
  for (struct lane *lane = lanes; lane < lanes + LANES; lane++) {
    struct job **link = &lane->first;
    lane->last = NULL;
    while (*link) {
      struct job *job = *link;
      if (job->environment == environment) {
        *link = job->next;
        lane->waiting--;
        free_job(job);
      } else {
        lane->last = job;
        link = &job->next;
      }
    }
  }
  for (struct lock *lock = locks; lock < locks + MAX_LOCKS; lock++)
    if (lock->holder == environment) {
      close(lock->fd);
      lock->holder = NULL;
    }
  release_environment(environment);
  pthread_mutex_unlock(&guard);
}

NAPI_MODULE_INIT()
{
  napi_value name;
  struct environment *environment = calloc(1, sizeof *environment);
  if (!environment)
    return NULL;
  environment->references = 1;
  /* Unreferenced: how long a call may keep the process alive is for its caller to say. */
  if (napi_create_string_utf8(env, "cvmd device", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, NULL, settle,
                                      &environment->channel) != napi_ok) {
    free(environment);
    return NULL;
  }
  if (napi_unref_threadsafe_function(env, environment->channel) != napi_ok ||
      napi_set_instance_data(env, environment, NULL, NULL) != napi_ok ||
      napi_add_env_cleanup_hook(env, leave, environment) != napi_ok)
    return NULL;
  for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++)
    if (!add_function(env, exports, &FUNCTIONS[i], call))
      return NULL;
  if (!add_function(env, exports, &PEER, call_peer))
    return NULL;
  return exports;
}
