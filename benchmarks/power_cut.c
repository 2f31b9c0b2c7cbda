/* Records, for power_cut.py, what a process does to files below $RECORD_ROOT: one record per call, in the order of the calls.
 *
 * Loaded with LD_PRELOAD. A record is one write() to a file opened with O_APPEND ($RECORD_LOG), so that records of several
 * threads and processes never mix: "op pid fd offset size pathlength path2length\n", both paths, then the data written.
 * Offsets are those of the file; -1 where there is none. sendfile and copy_file_range are refused, so that callers fall back
 * to read and write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FD 4096
static char watched[MAX_FD];
static int log_fd = -1;
static pid_t owner;
static const char *root;
static size_t root_length;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("RECORD_LOG");
    root = getenv("RECORD_ROOT");
    if (log == NULL || root == NULL) return;
    root_length = strlen(root);
    owner = getpid();
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, fd);
}

static void full_path(int folder, const char *path, char *out) {
    char link[64];
    out[0] = 0;
    if (path[0] != '/') {
        ssize_t got;
        if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        got = readlink(link, out, PATH_MAX - 1);
        if (got < 0) got = 0;
        out[got] = 0;
        strncat(out, "/", PATH_MAX - 1 - strlen(out));
    }
    strncat(out, path, PATH_MAX - 1 - strlen(out));
}

static int inside(const char *path) {
    return log_fd >= 0 && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static void record(const char *op, int fd, long long offset, const char *path, const char *other, const void *data,
                   size_t size) {
    char head[256];
    size_t first = path ? strlen(path) : 0, second = other ? strlen(other) : 0;
    int length = snprintf(head, sizeof head, "%s %d %d %lld %zu %zu %zu\n", op, getpid(), fd, offset, size, first, second);
    struct iovec parts[4] = {{head, length}, {(void *)path, first}, {(void *)other, second}, {(void *)data, size}};
    syscall(SYS_writev, log_fd, parts, 4);
}

static int is_watched(int fd) { return log_fd >= 0 && fd >= 0 && fd < MAX_FD && watched[fd]; }

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    char name[PATH_MAX];
    full_path(folder, path, name);
    pthread_mutex_lock(&order);
    int fd = syscall(SYS_openat, folder, path, flags, mode);
    int kept = errno;
    /* A child of vfork opens files in this very memory, under numbers of its own. */
    if (fd >= 0 && fd < MAX_FD && getpid() == owner) {
        watched[fd] = inside(name);
        if (watched[fd]) record(flags & O_TRUNC ? "truncopen" : flags & O_CREAT ? "create" : "open", fd, -1, name, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&order);
    errno = kept;
    return fd;
}

#define OPEN(name, at)                                                                       \
    {                                                                                        \
        mode_t mode = 0;                                                                     \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                               \
            va_list rest;                                                                    \
            va_start(rest, flags);                                                           \
            mode = va_arg(rest, mode_t);                                                     \
            va_end(rest);                                                                    \
        }                                                                                    \
        return open_any(at, path, flags, mode);                                              \
    }
int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD)
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD)
int openat(int folder, const char *path, int flags, ...) OPEN(openat, folder)
int openat64(int folder, const char *path, int flags, ...) OPEN(openat64, folder)
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    if (fd == log_fd) return 0;
    /* A child of vfork closes what it inherited in this very memory. */
    if (fd >= 0 && fd < MAX_FD && getpid() == owner) watched[fd] = 0;
    return syscall(SYS_close, fd);
}

static off_t position(int fd) { return syscall(SYS_lseek, fd, 0, SEEK_CUR); }

ssize_t write(int fd, const void *data, size_t size) {
    if (!is_watched(fd)) return syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&order);
    ssize_t done = syscall(SYS_write, fd, data, size);
    int kept = errno;
    if (done > 0) record("write", fd, position(fd) - done, NULL, NULL, data, done);
    pthread_mutex_unlock(&order);
    errno = kept;
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    if (!is_watched(fd)) return syscall(SYS_pwrite64, fd, data, size, offset);
    pthread_mutex_lock(&order);
    ssize_t done = syscall(SYS_pwrite64, fd, data, size, offset);
    int kept = errno;
    if (done > 0) record("write", fd, offset, NULL, NULL, data, done);
    pthread_mutex_unlock(&order);
    errno = kept;
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_watched(fd)) return syscall(SYS_writev, fd, parts, count);
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return all ? all : done;
        all += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return all;
}

#define ON_FD(op, call, offset)                             \
    {                                                       \
        if (!is_watched(fd)) return call;                   \
        pthread_mutex_lock(&order);                         \
        int done = call;                                    \
        int kept = errno;                                   \
        if (done == 0) record(op, fd, offset, NULL, NULL, NULL, 0); \
        pthread_mutex_unlock(&order);                       \
        errno = kept;                                       \
        return done;                                        \
    }
int fsync(int fd) ON_FD("sync", syscall(SYS_fsync, fd), -1)
int fdatasync(int fd) ON_FD("sync", syscall(SYS_fdatasync, fd), -1)
int ftruncate64(int fd, off64_t size) ON_FD("truncate", syscall(SYS_ftruncate, fd, size), size)
int ftruncate(int fd, off_t size) ON_FD("truncate", syscall(SYS_ftruncate, fd, size), size)

static int on_paths(const char *op, int folder, const char *path, int other_folder, const char *other, long call, int flags) {
    char name[PATH_MAX], second[PATH_MAX] = "";
    full_path(folder, path, name);
    if (other) full_path(other_folder, other, second);
    pthread_mutex_lock(&order);
    int done;
    if (call == SYS_renameat2 || call == SYS_linkat) done = syscall(call, folder, path, other_folder, other, flags);
    else if (call == SYS_mkdirat) done = syscall(call, folder, path, flags);
    else done = syscall(call, folder, path, flags);
    int kept = errno;
    if (done == 0 && (inside(name) || inside(second))) record(op, -1, -1, name, other ? second : NULL, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = kept;
    return done;
}
int rename(const char *from, const char *to) { return on_paths("rename", AT_FDCWD, from, AT_FDCWD, to, SYS_renameat2, 0); }
int renameat(int a, const char *from, int b, const char *to) { return on_paths("rename", a, from, b, to, SYS_renameat2, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return on_paths("rename", a, from, b, to, SYS_renameat2, flags);
}
int link(const char *from, const char *to) { return on_paths("link", AT_FDCWD, from, AT_FDCWD, to, SYS_linkat, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return on_paths("link", a, from, b, to, SYS_linkat, flags);
}
int unlink(const char *path) { return on_paths("unlink", AT_FDCWD, path, AT_FDCWD, NULL, SYS_unlinkat, 0); }
int rmdir(const char *path) { return on_paths("rmdir", AT_FDCWD, path, AT_FDCWD, NULL, SYS_unlinkat, AT_REMOVEDIR); }
int unlinkat(int folder, const char *path, int flags) {
    return on_paths(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path, AT_FDCWD, NULL, SYS_unlinkat, flags);
}
int mkdir(const char *path, mode_t mode) { return on_paths("mkdir", AT_FDCWD, path, AT_FDCWD, NULL, SYS_mkdirat, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return on_paths("mkdir", folder, path, AT_FDCWD, NULL, SYS_mkdirat, mode); }

/* The driver's word that a job was acknowledged: access("<root>/.acknowledged/<id>"). */
int access(const char *path, int mode) {
    int done = syscall(SYS_faccessat, AT_FDCWD, path, mode, 0);
    int kept = errno;
    if (inside(path) && strstr(path, "/.acknowledged/")) {
        pthread_mutex_lock(&order);
        record("mark", -1, -1, path, NULL, NULL, 0);
        pthread_mutex_unlock(&order);
    }
    errno = kept;
    return done;
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { errno = ENOSYS; return -1; }
ssize_t sendfile(int out, int in, off_t *offset, size_t count) { errno = ENOSYS; return -1; }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t count, unsigned flags) { errno = ENOSYS; return -1; }
