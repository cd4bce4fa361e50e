/* A clock that a test may set: preloaded into a server, it adds an offset to the time of day.

   The offset, in microseconds, is the first 8 bytes of the file that DISTKIT_CLOCK_OFFSET names.
   What measures periods (CLOCK_MONOTONIC) is left alone, as a system's clock that is set leaves it
   alone. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset;  /* none before the program begins */

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("DISTKIT_CLOCK_OFFSET");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) {
    _exit(97);
  }
  close(file);
  offset = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t micros = now->tv_sec * INT64_C(1000000) + now->tv_nsec / 1000 + *offset;
    now->tv_sec = micros / 1000000;
    now->tv_nsec = micros % 1000000 * 1000;
  }
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec precise;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &precise)) {
    return -1;
  }
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *seconds) {
  struct timespec precise;
  time_t now = clock_gettime(CLOCK_REALTIME, &precise) ? (time_t)-1 : precise.tv_sec;
  if (seconds) {
    *seconds = now;
  }
  return now;
}
