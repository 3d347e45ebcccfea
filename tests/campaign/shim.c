/* A layer of faults between a program and its disk, loaded with LD_PRELOAD by tests/campaign/layer.py.
 *
 * SHIM_ROOT    only files below this folder are touched
 * SHIM_ORDERS  a folder: while it has a file "eio", reads of data files fail; with "enospc", writes do
 * SHIM_SHADOW  a folder: whatever fsync or fdatasync returned on is copied there, as it was at that moment
 * SHIM_BOOT_ID a file that is read in place of /proc/sys/kernel/random/boot_id
 */
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
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

/* The path of a descriptor below SHIM_ROOT, relative to it; NULL for others. */
static const char *below(int fd, char *buffer)
{
    const char *root = getenv("SHIM_ROOT");
    char link[64];
    if (!root)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length <= 0)
        return NULL;
    buffer[length] = 0;
    size_t prefix = strlen(root);
    if (strncmp(buffer, root, prefix) || buffer[prefix] != '/')
        return NULL;
    return buffer + prefix + 1;
}

static int ordered(const char *what, int fd)
{
    const char *orders = getenv("SHIM_ORDERS");
    char path[PATH_MAX], buffer[PATH_MAX];
    if (!orders)
        return 0;
    int saved = errno;
    snprintf(path, sizeof path, "%s/%s", orders, what);
    int there = access(path, F_OK) == 0;
    if (there) {
        const char *relative = below(fd, buffer);
        there = relative && strstr(relative, "/data/");
        if (there) {
            snprintf(path, sizeof path, "%s/%s-happened", orders, what);
            int mark = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
            if (mark >= 0) {
                if (write(mark, "x", 1) != 1)
                    there = 1;
                close(mark);
            }
        }
    }
    errno = saved;
    return there;
}

#define READING(fd) if (ordered("eio", fd)) { errno = EIO; return -1; }
#define WRITING(fd) if (ordered("enospc", fd)) { errno = ENOSPC; return -1; }

ssize_t pread(int fd, void *to, size_t count, off_t at) { REAL(pread); READING(fd) return real(fd, to, count, at); }
ssize_t pread64(int fd, void *to, size_t count, off64_t at) { REAL(pread64); READING(fd) return real(fd, to, count, at); }
ssize_t preadv(int fd, const struct iovec *to, int n, off_t at) { REAL(preadv); READING(fd) return real(fd, to, n, at); }
ssize_t preadv64(int fd, const struct iovec *to, int n, off64_t at) { REAL(preadv64); READING(fd) return real(fd, to, n, at); }
ssize_t preadv2(int fd, const struct iovec *to, int n, off_t at, int flags) { REAL(preadv2); READING(fd) return real(fd, to, n, at, flags); }
ssize_t preadv64v2(int fd, const struct iovec *to, int n, off64_t at, int flags) { REAL(preadv64v2); READING(fd) return real(fd, to, n, at, flags); }
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) { REAL(pwrite); WRITING(fd) return real(fd, from, count, at); }
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) { REAL(pwrite64); WRITING(fd) return real(fd, from, count, at); }

/* Copy what a descriptor has now; the copy appears whole or not at all. */
static void shadow(int fd)
{
    const char *folder = getenv("SHIM_SHADOW");
    char buffer[PATH_MAX], target[2 * PATH_MAX], temporary[2 * PATH_MAX + 8], link[64];
    static char piece[1 << 16];
    struct stat facts;
    if (!folder || fstat(fd, &facts) || !S_ISREG(facts.st_mode))
        return;
    const char *relative = below(fd, buffer);
    if (!relative || strstr(relative, " (deleted)"))
        return;
    pthread_mutex_lock(&one);
    snprintf(target, sizeof target, "%s/%s", folder, relative);
    for (char *at = target + strlen(folder) + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(target, 0700);
        *at = '/';
    }
    snprintf(temporary, sizeof temporary, "%s.shim", target);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int from = open(link, O_RDONLY | O_CLOEXEC), to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from >= 0 && to >= 0) {
        ssize_t got;
        while ((got = read(from, piece, sizeof piece)) > 0)
            if (write(to, piece, got) != got)
                abort();
        if (rename(temporary, target))
            abort();
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    pthread_mutex_unlock(&one);
}

int fsync(int fd)
{
    REAL(fsync);
    int answer = real(fd), saved = errno;
    if (!answer)
        shadow(fd);
    errno = saved;
    return answer;
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    int answer = real(fd), saved = errno;
    if (!answer)
        shadow(fd);
    errno = saved;
    return answer;
}

static const char *other(const char *path)
{
    const char *boot = getenv("SHIM_BOOT_ID");
    return boot && path && !strcmp(path, "/proc/sys/kernel/random/boot_id") ? boot : path;
}

#define OPENER(name, first, ...) \
    { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list more; \
            va_start(more, flags); \
            mode = va_arg(more, mode_t); \
            va_end(more); \
        } \
        return real(__VA_ARGS__, flags, mode); \
    }

int open(const char *path, int flags, ...) OPENER(open, path, other(path))
int open64(const char *path, int flags, ...) OPENER(open64, path, other(path))
int openat(int at, const char *path, int flags, ...) OPENER(openat, path, at, other(path))
int openat64(int at, const char *path, int flags, ...) OPENER(openat64, path, at, other(path))
