// Preloaded into a command: every VMSNAP_SHORT_EVERY-th read or write of a file below VMSNAP_SHORT_FOLDER does a third of what
// it was asked for, as a system may at any time. VMSNAP_SHORT_EINTR=1: it does nothing and says EINTR instead.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static int is_ours(int fd) {
  const char* folder = getenv("VMSNAP_SHORT_FOLDER");
  char link[64];
  char path[PATH_MAX];
  if (folder == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  return length > 0 && (size_t)length > strlen(folder) && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_due(int fd) {
  const char* every = getenv("VMSNAP_SHORT_EVERY");
  if (every == NULL || !is_ours(fd)) return 0;
  return atomic_fetch_add(&calls, 1) % atol(every) == atol(every) - 1;
}

static size_t shortened(size_t count) { return count < 3 ? count : count / 3; }

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define INTERRUPT \
  if (getenv("VMSNAP_SHORT_EINTR") != NULL) { \
    errno = EINTR; \
    return -1; \
  }

#define PLAIN(name, pointer) \
  ssize_t name(int fd, pointer buffer, size_t count) { \
    REAL(name); \
    if (is_due(fd)) { \
      INTERRUPT \
      count = shortened(count); \
    } \
    return real(fd, buffer, count); \
  }
PLAIN(read, void*)
PLAIN(write, const void*)

#define PLACED(name, pointer, offset_type) \
  ssize_t name(int fd, pointer buffer, size_t count, offset_type offset) { \
    REAL(name); \
    if (is_due(fd)) { \
      INTERRUPT \
      count = shortened(count); \
    } \
    return real(fd, buffer, count, offset); \
  }
PLACED(pread, void*, off_t)
PLACED(pread64, void*, off64_t)
PLACED(pwrite, const void*, off_t)
PLACED(pwrite64, const void*, off64_t)

// Of several parts the first is done, and a third of it.
#define VECTOR(name, more_parameters, more_arguments) \
  ssize_t name(int fd, const struct iovec* parts, int count more_parameters) { \
    REAL(name); \
    struct iovec first; \
    if (count > 0 && is_due(fd)) { \
      INTERRUPT \
      first = parts[0]; \
      first.iov_len = shortened(first.iov_len); \
      parts = &first; \
      count = 1; \
    } \
    return real(fd, parts, count more_arguments); \
  }
#define COMMA ,
VECTOR(readv, , )
VECTOR(writev, , )
VECTOR(preadv, COMMA off_t offset, COMMA offset)
VECTOR(preadv64, COMMA off64_t offset, COMMA offset)
VECTOR(pwritev, COMMA off_t offset, COMMA offset)
VECTOR(pwritev64, COMMA off64_t offset, COMMA offset)
