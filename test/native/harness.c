/*
 * Drives native/device.c without a JavaScript runtime, for sanitizers and valgrind:
 * harness [rounds] [seed]
 */
#include <assert.h>
#include <fnmatch.h>

#include "fake-kernel.h"

#include "../../native/device.c"

#define ENVIRONMENTS 4

static uint64_t state;

/* xorshift64 (Marsaglia, 2003) */
static uint32_t any(uint32_t below)
{
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32) % below;
}

/* ---- Paths: the list is compared with another way to read it ---------------------------------- */

static bool expected(const char *path, int operation)
{
  size_t length = strlen(path);
  char ended[2 * MAX_PATH_BYTES];
  snprintf(ended, sizeof ended, "%s/", path);
  if (path[0] != '/' || strstr(ended, "//") || strstr(ended, "/./") || strstr(ended, "/../"))
    return false;
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)path[i] < 0x21 || (unsigned char)path[i] > 0x7e)
      return false;
  for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++)
    if (RULES[i].operations >> operation & 1 && fnmatch(RULES[i].pattern, path, FNM_PATHNAME) == 0)
      return true;
  return false;
}

static void random_path(char path[MAX_PATH_BYTES + 1])
{
  static const char *const SEGMENTS[] = {"..", ".", "", "x", "class", "inblob", "rtmr2:sha384",
                                         "a b", "\xff", "*", "?", "..."};
  const char *pattern = RULES[any(sizeof RULES / sizeof *RULES)].pattern;
  size_t length = 0;
  for (; *pattern; pattern++) {
    const char *text = SEGMENTS[any(sizeof SEGMENTS / sizeof *SEGMENTS)];
    if (*pattern == '*')
      while (*text)
        path[length++] = *text++;
    else
      path[length++] = *pattern;
  }
  path[length] = '\0';
  switch (any(8)) {
  case 0: path[any((uint32_t)length)] = (char)(1 + any(255)); break;
  case 1: path[any((uint32_t)length)] = '\0'; break;
  case 2: path[any((uint32_t)length)] = "/.*"[any(3)]; break;
  case 3: strcpy(path + length, (const char *[]){"/", "/..", "/.", "/x", "x"}[any(5)]); break;
  default: break;
  }
}

static void check_paths(long rounds)
{
  char path[MAX_PATH_BYTES + 1];
  long allowed = 0;
  for (long round = 0; round < rounds; round++) {
    random_path(path);
    for (int operation = STAT; operation <= UNLOCK; operation++) {
      bool found = find_rule(path, operation) != NULL;
      if (found != expected(path, operation)) {
        fprintf(stderr, "\"%s\", operation %d: %d\n", path, operation, found);
        abort();
      }
      allowed += found;
    }
  }
  printf("paths: %ld rounds, %ld allowed\n", rounds, allowed);
}

/* ---- Lanes: environments come and go while their calls are in the lanes ---------------------- */

static unsigned settled;

/* Stands for the runtime: takes the job over. Called with the guard held. */
napi_status napi_call_threadsafe_function(napi_threadsafe_function channel, void *data,
                                          napi_threadsafe_function_call_mode mode)
{
  (void)channel;
  (void)mode;
  settled++;
  free_job(data);
  return napi_ok;
}

static struct environment *enter(void)
{
  struct environment *environment = calloc(1, sizeof *environment);
  assert(environment);
  environment->references = 1;
  environment->channel = (napi_threadsafe_function)environment;
  return environment;
}

static void submit(struct environment *environment)
{
  size_t length = any(80);
  struct job *job = calloc(1, sizeof *job + length);
  assert(job);
  job->operation = (int)any(UNLOCK + 1);
  job->number = any(300);
  /* What the JavaScript side makes sure of. */
  job->in_length = job->operation == TDREPORT ? 64 : length;
  if (job->operation == TDREPORT || (job->operation == NSM && length == 0)) {
    job = realloc(job, sizeof *job + 64);
    assert(job);
    memset(job->in, 7, 64);
    job->in_length = 64;
  }
  random_path(job->path);
  job->environment = environment;
  pthread_mutex_lock(&guard);
  environment->references++;
  if (enqueue(job) != 0)
    free_job(job);
  pthread_mutex_unlock(&guard);
}

static void check_lanes(long rounds)
{
  struct environment *environments[ENVIRONMENTS];
  for (int i = 0; i < ENVIRONMENTS; i++)
    environments[i] = enter();
  for (long round = 0; round < rounds; round++) {
    int i = (int)any(ENVIRONMENTS);
    submit(environments[i]);
    if (any(64) == 0) {
      usleep(1000);
      leave(environments[i]);
      environments[i] = enter();
    }
  }
  /* Calls that are on their way go on to the end of the process, which nothing here waits for. */
  for (int i = 0; i < ENVIRONMENTS; i++)
    leave(environments[i]);
  pthread_mutex_lock(&guard);
  for (int i = 0; i < MAX_LOCKS; i++)
    assert(!locks[i].holder);
  for (int i = 0; i < LANES; i++)
    assert(lanes[i].waiting == 0 && !lanes[i].first);
  assert(settled > 0);
  printf("lanes: %ld rounds, %u settled\n", rounds, settled);
  pthread_mutex_unlock(&guard);
}

/* ---- Descriptors: only a connected Unix socket has a peer ------------------------------------- */

static void check_peers(long rounds)
{
  struct peer peer;
  int pair[2], files[2], tcp = socket(AF_INET, SOCK_STREAM, 0);
  int listening = socket(AF_UNIX, SOCK_STREAM, 0), fresh = socket(AF_UNIX, SOCK_STREAM, 0);
  /* An address of the family alone binds to a name the kernel chooses. */
  struct sockaddr chosen = {.sa_family = AF_UNIX};
  assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !pipe(files) && tcp >= 0 && fresh >= 0);
  assert(!bind(listening, &chosen, sizeof chosen.sa_family) && !listen(listening, 1));
  assert(!peer_of(pair[0], &peer) && peer.user == getuid() && peer.group == getgid());
  assert(peer.process == getpid());
  assert(peer_of(tcp, &peer) == ENOTCONN && peer_of(listening, &peer) == ENOTCONN);
  assert(peer_of(fresh, &peer) == ENOTCONN && peer_of(files[0], &peer) == ENOTSOCK);
  assert(peer_of(-1, &peer) == EBADF && peer_of(INT_MAX, &peer) == EBADF);
  close(pair[1]);
  assert(!peer_of(pair[0], &peer) && peer.user == getuid());
  for (long round = 0; round < rounds; round++) {
    int fd = (int)any(64), error = peer_of(fd, &peer);
    assert(error ? fd != pair[0] : peer.user == getuid());
  }
  int made[] = {pair[0], files[0], files[1], tcp, listening, fresh};
  for (size_t i = 0; i < sizeof made / sizeof *made; i++)
    close(made[i]);
}

int main(int count, char **arguments)
{
  long rounds = count > 1 ? atol(arguments[1]) : 100000;
  state = count > 2 ? strtoull(arguments[2], NULL, 0) | 1 : 1;
  check_paths(rounds);
  check_peers(rounds / 10);
  check_lanes(rounds / 10);
  return 0;
}
