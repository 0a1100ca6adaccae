// Preloaded into a command, for what strace cannot do: calls that do less than they are asked for, and calls on what has no name, or
// none that is known before. Only files below VMSNAP_FAULT_FOLDER are meant; with VMSNAP_FAULT_SOCKETS=1 sockets as well, but not
// those that are standard input, output and error.
//
// VMSNAP_SHORT_EVERY=N: every N-th read or write does a third of what it was asked for, as a system may at any time.
// VMSNAP_SHORT_EINTR=1: it does nothing and says EINTR instead.
// VMSNAP_FAIL=CALL:N:ERRNO: the N-th of these calls, and no other, fails. VMSNAP_FAIL_LOG=FILE: a line for each call, its name.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static int has_sockets(void) { return getenv("VMSNAP_FAULT_SOCKETS") != NULL; }

static int is_below(const char* path) {
  const char* folder = getenv("VMSNAP_FAULT_FOLDER");
  return folder != NULL && strlen(path) > strlen(folder) && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_ours(int fd) {
  char link[64];
  char path[PATH_MAX];
  if (getenv("VMSNAP_FAULT_FOLDER") == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = '\0';
  return is_below(path) || (fd > STDERR_FILENO && has_sockets() && strncmp(path, "socket:", 7) == 0);
}

static void note(const char* name) {
  const char* log = getenv("VMSNAP_FAIL_LOG");
  if (log == NULL) return;
  FILE* file = fopen(log, "ae");
  if (file == NULL) abort();
  fprintf(file, "%s\n", name);
  fclose(file);
}

// Whether this call, on what is ours, is the one to fail; then errno is set. The log is no file of the folder.
static int is_to_fail(const char* name) {
  const char* order = getenv("VMSNAP_FAIL");
  note(name);
  char call[32];
  long when = 0;
  int error = 0;
  if (order == NULL || sscanf(order, "%31[^:]:%ld:%d", call, &when, &error) != 3 || strcmp(call, name) != 0) return 0;
  static atomic_long made;
  if (atomic_fetch_add(&made, 1) + 1 != when) return 0;
  note("failed");
  errno = error;
  return 1;
}

static int is_asked(void) { return getenv("VMSNAP_FAIL") != NULL || getenv("VMSNAP_FAIL_LOG") != NULL; }

static int fails(const char* name, int fd) { return is_asked() && is_ours(fd) && is_to_fail(name); }

static int fails_at(const char* name, const char* path) { return is_asked() && is_below(path) && is_to_fail(name); }

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

#define COMMA ,
#define ONE_PART(name, pointer, more_parameters, more_arguments) \
  ssize_t name(int fd, pointer buffer, size_t count more_parameters) { \
    REAL(name); \
    if (fails(#name, fd)) return -1; \
    if (is_due(fd)) { \
      INTERRUPT \
      count = shortened(count); \
    } \
    return real(fd, buffer, count more_arguments); \
  }
ONE_PART(read, void*, , )
ONE_PART(write, const void*, , )
ONE_PART(pread, void*, COMMA off_t offset, COMMA offset)
ONE_PART(pread64, void*, COMMA off64_t offset, COMMA offset)
ONE_PART(pwrite, const void*, COMMA off_t offset, COMMA offset)
ONE_PART(pwrite64, const void*, COMMA off64_t offset, COMMA offset)

// Of several parts the first is done, and a third of it.
#define VECTOR(name, more_parameters, more_arguments) \
  ssize_t name(int fd, const struct iovec* parts, int count more_parameters) { \
    REAL(name); \
    struct iovec first; \
    if (fails(#name, fd)) return -1; \
    if (count > 0 && is_due(fd)) { \
      INTERRUPT \
      first = parts[0]; \
      first.iov_len = shortened(first.iov_len); \
      parts = &first; \
      count = 1; \
    } \
    return real(fd, parts, count more_arguments); \
  }
VECTOR(readv, , )
VECTOR(writev, , )
VECTOR(preadv, COMMA off_t offset, COMMA offset)
VECTOR(preadv64, COMMA off64_t offset, COMMA offset)
VECTOR(pwritev, COMMA off_t offset, COMMA offset)
VECTOR(pwritev64, COMMA off64_t offset, COMMA offset)

#define WHOLE(name, parameters, arguments) \
  int name parameters { \
    REAL(name); \
    return fails(#name, fd) ? -1 : real arguments; \
  }
WHOLE(ftruncate, (int fd, off_t size), (fd, size))
WHOLE(ftruncate64, (int fd, off64_t size), (fd, size))
WHOLE(fallocate, (int fd, int mode, off_t offset, off_t size), (fd, mode, offset, size))
WHOLE(fallocate64, (int fd, int mode, off64_t offset, off64_t size), (fd, mode, offset, size))
WHOLE(fsync, (int fd), (fd))
WHOLE(fdatasync, (int fd), (fd))
WHOLE(fstat, (int fd, struct stat* stats), (fd, stats))
WHOLE(fstat64, (int fd, struct stat64* stats), (fd, stats))

WHOLE(connect, (int fd, const struct sockaddr* address, socklen_t size), (fd, address, size))
WHOLE(bind, (int fd, const struct sockaddr* address, socklen_t size), (fd, address, size))
WHOLE(listen, (int fd, int backlog), (fd, backlog))
WHOLE(accept4, (int fd, struct sockaddr* address, socklen_t* size, int flags), (fd, address, size, flags))
WHOLE(fchmod, (int fd, mode_t mode), (fd, mode))

// Of one descriptor: who waits for several is Node's own loop, which asks for no other way.
int poll(struct pollfd* waiting, nfds_t count, int milliseconds) {
  REAL(poll);
  return count == 1 && fails("poll", waiting[0].fd) ? -1 : real(waiting, count, milliseconds);
}

int socket(int domain, int type, int protocol) {
  REAL(socket);
  return is_asked() && has_sockets() && is_to_fail("socket") ? -1 : real(domain, type, protocol);
}

#define NAMED(name, parameters, arguments) \
  int name parameters { \
    REAL(name); \
    return fails_at(#name, path) ? -1 : real arguments; \
  }
NAMED(chmod, (const char* path, mode_t mode), (path, mode))
NAMED(unlink, (const char* path), (path))
NAMED(rmdir, (const char* path), (path))

char* mkdtemp(char* path) {
  REAL(mkdtemp);
  return fails_at("mkdtemp", path) ? NULL : real(path);
}
