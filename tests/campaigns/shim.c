/* Preloaded into a process: counts the operations that change files under a folder, and makes one
 * of them fail, or kills the process there. The counter lies in memory that forked processes share.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE = 1, SIZE = 2, SYNC = 4, NAME = 8, CREATE = 16 };
enum { COUNT = 1, KILL = 2, KILL_HALF_WAY = 3, FAIL = 4 };

static char folder[PATH_MAX];
static int mode, number, sticky, mask;
static long at;
static long *count;

__attribute__((constructor)) static void begin(void)
{
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* What to do from now on; counts from 0. */
void shim_set(const char *path, int what, long when, int error, int from_then_on, int kinds)
{
    snprintf(folder, sizeof folder, "%s", path);
    mode = what, at = when, number = error, sticky = from_then_on, mask = kinds;
    __sync_lock_test_and_set(count, 0);
}

/* In the parent, after a fork: its own operations are no concern. */
void shim_mode(int what)
{
    mode = what;
}

long shim_count(void)
{
    return __sync_add_and_fetch(count, 0);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Whether this operation is to fail; the process may end here. `half` does half of a write. */
static int meets(int kind, int inside, void (*half)(void *), void *of)
{
    if (!mode || !inside || !(kind & mask))
        return 0;
    long now = __sync_add_and_fetch(count, 1);
    if (now == at && mode == KILL)
        die();
    if (now == at && mode == KILL_HALF_WAY) {
        if (half)
            half(of);
        die();
    }
    /* Names can be given and removed on a disk that is full. */
    if (mode == FAIL && (now == at || (sticky && now > at && kind != NAME))) {
        errno = number;
        return 1;
    }
    return 0;
}

static int under(const char *path)
{
    return folder[0] && !strncmp(path, folder, strlen(folder));
}

static int open_under(int descriptor)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return under(path);
}

static int named_under(const char *path)
{
    char whole[PATH_MAX];
    if (path[0] == '/')
        return under(path);
    if (!getcwd(whole, sizeof whole) || strlen(whole) + strlen(path) + 2 > sizeof whole)
        return 0;
    strcat(strcat(whole, "/"), path);
    return under(whole);
}

struct piece { int descriptor; const void *data; size_t size; off_t offset; };

static void half_of(void *of)
{
    struct piece *p = of;
    if (p->offset >= 0)
        syscall(SYS_pwrite64, p->descriptor, p->data, p->size / 2, p->offset);
    else
        syscall(SYS_write, p->descriptor, p->data, p->size / 2);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t offset)
{
    struct piece p = { descriptor, data, size, offset };
    if (mode && meets(WRITE, open_under(descriptor), half_of, &p))
        return -1;
    return syscall(SYS_pwrite64, descriptor, data, size, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    return pwrite64(descriptor, data, size, offset);
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    struct piece p = { descriptor, data, size, -1 };
    if (mode && descriptor > 2 && meets(WRITE, open_under(descriptor), half_of, &p))
        return -1;
    return syscall(SYS_write, descriptor, data, size);
}

int ftruncate64(int descriptor, off_t size)
{
    if (mode && meets(SIZE, open_under(descriptor), NULL, NULL))
        return -1;
    return syscall(SYS_ftruncate, descriptor, size);
}

int ftruncate(int descriptor, off_t size)
{
    return ftruncate64(descriptor, size);
}

int posix_fallocate64(int descriptor, off_t offset, off_t size)
{
    if (mode && meets(SIZE, open_under(descriptor), NULL, NULL))
        return errno;
    return syscall(SYS_fallocate, descriptor, 0, offset, size) ? errno : 0;
}

int posix_fallocate(int descriptor, off_t offset, off_t size)
{
    return posix_fallocate64(descriptor, offset, size);
}

int fsync(int descriptor)
{
    if (mode && meets(SYNC, open_under(descriptor), NULL, NULL))
        return -1;
    return syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
    if (mode && meets(SYNC, open_under(descriptor), NULL, NULL))
        return -1;
    return syscall(SYS_fdatasync, descriptor);
}

int rename(const char *from, const char *to)
{
    if (mode && meets(NAME, named_under(from), NULL, NULL))
        return -1;
    return syscall(SYS_rename, from, to);
}

int unlink(const char *path)
{
    if (mode && meets(NAME, named_under(path), NULL, NULL))
        return -1;
    return syscall(SYS_unlink, path);
}

static int opened(const char *path, int flags, mode_t permissions)
{
    if (mode && (flags & O_CREAT) && meets(CREATE, named_under(path), NULL, NULL))
        return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, permissions);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t permissions = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, permissions);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t permissions = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, permissions);
}
