/* What stands between a process and its files while durable is being proved: see harness.py.
 *
 * Preloaded, it sees every call that changes or locks a file below one folder, numbers it, and at a chosen number kills
 * the process, or fails the call, or cuts a write short. It can also write down what it saw, with the data, so that the
 * files a power cut could have left can be made from it. Only calls made through the C library are seen; SQLite and
 * CPython make theirs so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOTHING, KILL_BEFORE, KILL_AFTER, FAIL, SHORT };
enum { OPEN = 1, WRITE, SYNC, TRUNCATE, UNLINK, RENAME, MKDIR, RMDIR, LOCK, UNLOCK, LINK };
#define FILES 1024
#define LENGTH 512

static char folder[LENGTH];
static size_t folder_length;
static char *paths[FILES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long seen, chosen;
static int action, error_number, persistent, mask, trace = -1, armed;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Begin to watch `below`: at the `at`th call whose kind is in `kinds` (bits), do `what`. */
void proof_arm(const char *below, long at, int what, int error, int forever, int kinds, const char *record)
{
    strncpy(folder, below, LENGTH - 1);
    folder_length = strlen(folder);
    seen = 0;
    chosen = at;
    action = what;
    error_number = error;
    persistent = forever;
    mask = kinds;
    if (record && *record)
        trace = syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    armed = 1;
}

long proof_seen(void) { return seen; }

static int ours(const char *path) { return armed && path && !strncmp(path, folder, folder_length); }
static const char *known(int fd) { return armed && fd >= 0 && fd < FILES ? paths[fd] : NULL; }

/* A trace is in the order in which things happened, also where threads make them. */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static void hold(void) { if (trace >= 0) pthread_mutex_lock(&order); }
static void release(void) { int kept = errno; if (trace >= 0) pthread_mutex_unlock(&order); errno = kept; }

static void put(const void *data, size_t length)
{
    const char *at = data;
    while (length) {
        ssize_t done = syscall(SYS_write, trace, at, length);
        if (done <= 0)
            return;
        at += done;
        length -= done;
    }
}

/* kind, offset, length of path, length of data, path, data */
static void note(int kind, const char *path, int64_t offset, const void *data, int64_t length)
{
    if (trace < 0)
        return;
    int64_t head[4] = {kind, offset, (int64_t)strlen(path), length};
    put(head, sizeof head);
    put(path, strlen(path));
    if (length)
        put(data, length);
}

/* Number a call. 1: it is to fail with errno set; 2: it is to be cut short. May not return. */
static int before(int kind)
{
    if (!(mask >> kind & 1))
        return 0;
    long number = __sync_add_and_fetch(&seen, 1);
    int now = number == chosen || (persistent && chosen && number > chosen);
    if (!now)
        return 0;
    if (action == KILL_BEFORE)
        kill(getpid(), SIGKILL);
    if (action == FAIL) {
        errno = error_number;
        return 1;
    }
    return action == SHORT ? 2 : 0;
}

static void after(int kind)
{
    if (action == KILL_AFTER && mask >> kind & 1 && seen == chosen)
        kill(getpid(), SIGKILL);
}

static void remember(int fd, const char *path)
{
    if (fd < 0 || fd >= FILES)
        return;
    pthread_mutex_lock(&mutex);
    free(paths[fd]);
    paths[fd] = path ? strdup(path) : NULL;
    pthread_mutex_unlock(&mutex);
}

#define OPENS(NAME, CALL, PATH)                                                                                        \
    if (!ours(PATH)) {                                                                                                 \
        int plain = CALL;                                                                                              \
        if (armed)                                                                                                     \
            remember(plain, NULL);                                                                                     \
        return plain;                                                                                                  \
    }                                                                                                                  \
    if (flags & O_CREAT && before(OPEN))                                                                               \
        return -1;                                                                                                     \
    hold();                                                                                                            \
    int fd = CALL;                                                                                                     \
    remember(fd, fd < 0 ? NULL : PATH);                                                                                \
    if (fd >= 0 && flags & O_CREAT)                                                                                    \
        note(OPEN, PATH, flags & O_TRUNC ? 1 : 0, NULL, 0);                                                            \
    release();                                                                                                         \
    if (fd >= 0 && flags & O_CREAT)                                                                                    \
        after(OPEN);                                                                                                   \
    return fd;

#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

int open(const char *path, int flags, ...)
{
    MODE int (*next)(const char *, int, mode_t) = real("open");
    OPENS(open, next(path, flags, mode), path)
}

int open64(const char *path, int flags, ...)
{
    MODE int (*next)(const char *, int, mode_t) = real("open64");
    OPENS(open64, next(path, flags, mode), path)
}

int openat(int at, const char *path, int flags, ...)
{
    MODE int (*next)(int, const char *, int, mode_t) = real("openat");
    OPENS(openat, next(at, path, flags, mode), path)
}

int openat64(int at, const char *path, int flags, ...)
{
    MODE int (*next)(int, const char *, int, mode_t) = real("openat64");
    OPENS(openat64, next(at, path, flags, mode), path)
}

int close(int fd)
{
    int (*next)(int) = real("close");
    if (known(fd))
        remember(fd, NULL);
    return next(fd);
}

static ssize_t written(int fd, const void *data, size_t length, int64_t offset, ssize_t (*next)(int, const void *, size_t, off_t))
{
    const char *path = known(fd);
    if (!path)
        return next ? next(fd, data, length, offset) : syscall(SYS_write, fd, data, length);
    int what = before(WRITE);
    if (what == 1)
        return -1;
    if (what == 2 && length > 1)
        length /= 2;
    hold();
    if (!next) {
        struct stat status;
        offset = fstat(fd, &status) ? 0 : status.st_size; /* appended */
    }
    ssize_t done = next ? next(fd, data, length, offset) : syscall(SYS_write, fd, data, length);
    if (done > 0)
        note(WRITE, path, offset, data, done);
    release();
    after(WRITE);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) { return written(fd, data, length, 0, NULL); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return written(fd, data, length, offset, real("pwrite")); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return written(fd, data, length, offset, real("pwrite64")); }

#define ON_FILE(NAME, KIND, OFFSET, ARGUMENTS, ...)                                                                    \
    {                                                                                                                  \
        int (*next) ARGUMENTS = real(#NAME);                                                                           \
        const char *path = known(fd);                                                                                  \
        if (!path)                                                                                                     \
            return next(__VA_ARGS__);                                                                                  \
        if (before(KIND) == 1)                                                                                         \
            return -1;                                                                                                 \
        hold();                                                                                                        \
        int done = next(__VA_ARGS__);                                                                                  \
        if (!done)                                                                                                     \
            note(KIND, path, OFFSET, NULL, 0);                                                                         \
        release();                                                                                                     \
        after(KIND);                                                                                                   \
        return done;                                                                                                   \
    }

int fsync(int fd) ON_FILE(fsync, SYNC, 0, (int), fd)
int fdatasync(int fd) ON_FILE(fdatasync, SYNC, 0, (int), fd)
int ftruncate(int fd, off_t length) ON_FILE(ftruncate, TRUNCATE, length, (int, off_t), fd, length)
int ftruncate64(int fd, off64_t length) ON_FILE(ftruncate64, TRUNCATE, length, (int, off64_t), fd, length)
int flock(int fd, int operation) ON_FILE(flock, operation & LOCK_UN ? UNLOCK : LOCK, 0, (int, int), fd, operation)

static int locks(int command) { return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK; }

#define FCNTL(NAME)                                                                                                    \
    int NAME(int fd, int command, ...)                                                                                 \
    {                                                                                                                  \
        va_list list;                                                                                                  \
        va_start(list, command);                                                                                       \
        void *argument = va_arg(list, void *);                                                                         \
        va_end(list);                                                                                                  \
        int (*next)(int, int, ...) = real(#NAME);                                                                      \
        if (!known(fd) || !locks(command))                                                                             \
            return next(fd, command, argument);                                                                        \
        int kind = ((struct flock *)argument)->l_type == F_UNLCK ? UNLOCK : LOCK;                                       \
        if (before(kind) == 1)                                                                                         \
            return -1;                                                                                                 \
        int done = next(fd, command, argument);                                                                        \
        after(kind);                                                                                                   \
        return done;                                                                                                   \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

#define ON_NAME(NAME, KIND, ARGUMENTS, CALLED, DATA, LENGTH, ...)                                                      \
    int NAME ARGUMENTS                                                                                                 \
    {                                                                                                                  \
        int (*next) ARGUMENTS = real(#NAME);                                                                           \
        if (!ours(CALLED))                                                                                             \
            return next(__VA_ARGS__);                                                                                  \
        if (before(KIND) == 1)                                                                                         \
            return -1;                                                                                                 \
        hold();                                                                                                        \
        int done = next(__VA_ARGS__);                                                                                  \
        if (!done)                                                                                                     \
            note(KIND, CALLED, 0, DATA, LENGTH);                                                                       \
        release();                                                                                                     \
        after(KIND);                                                                                                   \
        return done;                                                                                                   \
    }
ON_NAME(unlink, UNLINK, (const char *path), path, NULL, 0, path)
ON_NAME(rename, RENAME, (const char *path, const char *to), path, to, strlen(to), path, to)
ON_NAME(link, LINK, (const char *path, const char *to), path, to, strlen(to), path, to)
ON_NAME(linkat, LINK, (int at, const char *path, int to_at, const char *to, int flags), path, to, strlen(to), at, path, to_at, to, flags)
ON_NAME(mkdir, MKDIR, (const char *path, mode_t mode), path, NULL, 0, path, mode)
ON_NAME(rmdir, RMDIR, (const char *path), path, NULL, 0, path)
ON_NAME(unlinkat, UNLINK, (int at, const char *path, int flags), path, NULL, 0, at, path, flags)
