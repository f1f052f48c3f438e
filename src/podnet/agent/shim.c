/* The CNI executable that asks podnet's agent; shim.py does the same, and one test suite holds both
 * to it. The frames are described in frames.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SHIM_SOCKET
#define SHIM_SOCKET "/run/podnet/agent.sock"
#endif
#define SHIM_FALLBACK ".podnet-plugin"
#define MAGIC "PDN1"
#define NO_AGENT "podnet's agent is not running"
#define NO_TIME "podnet's agent did not answer"

enum {
    MOST_NAME = 255,
    MOST_ENVIRONMENT = 256 << 10,
    MOST_STDIN = 8 << 20,
    MOST_OUTPUT = 16 << 20,
    REQUEST_HEADER = 20,
    ANSWER_HEADER = 16,
    FIRST_ROOM = 64 << 10,
    MOST_SECONDS = 3600,
    BUSY_PAUSE_MS = 5,
};

enum { BAD_ENVIRONMENT = 4, IO_FAILURE = 5, BAD_CONFIG = 6, TRY_LATER = 11 };

struct bytes {
    char *data;
    size_t size, room;
};

struct answer {
    uint32_t code;
    size_t out, err;
};

enum reading { INCOMPLETE, WHOLE, NO_ANSWER };

static long seconds = 115;
static int64_t deadline; /* milliseconds of the monotonic clock */

static void fail(int code, const char *msg, ...) __attribute__((noreturn, sentinel));

/* Write it all; a reader who has gone misses it, which is no failure of the call. */
static void relay(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t done = write(fd, data, size);
        if (done >= 0) {
            data += done;
            size -= (size_t)done;
        } else if (errno == EAGAIN) {
            struct pollfd wanted = {.fd = fd, .events = POLLOUT};
            poll(&wanted, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void make_room(struct bytes *bytes, size_t more)
{
    if (bytes->room - bytes->size >= more)
        return;
    size_t room = bytes->room ? bytes->room : FIRST_ROOM;
    while (room - bytes->size < more)
        room *= 2;
    char *data = realloc(bytes->data, room);
    if (!data)
        fail(TRY_LATER, "out of memory", NULL);
    bytes->data = data;
    bytes->room = room;
}

static void append(struct bytes *bytes, const void *data, size_t size)
{
    make_room(bytes, size);
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

/* Return how many bytes the character has that begins here; what is no UTF-8 is told as U+FFFD. */
static size_t character(const unsigned char *text, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = *text < 0x80 ? 1 : *text < 0xc0 ? 0 : *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : 4;
    *code = length < 2 ? *text : *text & (0xffu >> (length + 1));
    int wrong = length == 0 || *text > 0xf4;
    for (size_t i = 1; i < length && !wrong; i++) {
        wrong = (text[i] & 0xc0) != 0x80; /* as is the zero byte at the end */
        *code = *code << 6 | (text[i] & 0x3f);
    }
    if (!wrong && *code >= least[length] && *code <= 0x10ffff && (*code & ~0x7ffu) != 0xd800)
        return length;
    *code = 0xfffd;
    return 1;
}

static void append_escaped(struct bytes *to, const char *from)
{
    const unsigned char *text = (const unsigned char *)from;
    while (*text) {
        uint32_t code;
        size_t length = character(text, &code);
        if (code < 0x20 || code == '"' || code == '\\' || code == 0x7f || code == 0xfffd) {
            char escape[16];
            append(to, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code));
        } else
            append(to, text, length);
        text += length;
    }
}

/* Print an error, whose details are the texts up to NULL, and end. */
static void fail(int code, const char *msg, ...)
{
    static char room[32 << 10]; /* what two paths become, if all of it has to be escaped */
    struct bytes out = {.data = room, .room = sizeof room};
    va_list details;
    static const char head[] =
        "{\"cniVersion\": \"1.1.0\", \"code\": %d, \"msg\": \"%s\", \"details\": \"";
    out.size = (size_t)snprintf(room, sizeof room, head, code, msg);
    va_start(details, msg);
    for (const char *text; (text = va_arg(details, const char *));)
        append_escaped(&out, text);
    va_end(details);
    append(&out, "\"}\n", 3);
    signal(SIGPIPE, SIG_IGN);
    relay(1, out.data, out.size);
    exit(1);
}

static void put_number(char *at, size_t number)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(number >> (24 - 8 * i));
}

static uint32_t number_at(const char *at)
{
    const unsigned char *byte = (const unsigned char *)at;
    return (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 | (uint32_t)byte[2] << 8 | byte[3];
}

/* Judge what came so far of an answer; its numbers are known once its header is there. */
static enum reading read_answer(const char *data, size_t size, struct answer *answer)
{
    if (memcmp(data, MAGIC, size < 4 ? size : 4) != 0)
        return NO_ANSWER;
    if (size < ANSWER_HEADER)
        return INCOMPLETE;
    answer->code = number_at(data + 4);
    answer->out = number_at(data + 8);
    answer->err = number_at(data + 12);
    if (answer->code > 255 || answer->out > MOST_OUTPUT || answer->err > MOST_OUTPUT)
        return NO_ANSWER;
    return size - ANSWER_HEADER < answer->out + answer->err ? INCOMPLETE : WHOLE;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Return the milliseconds left; none are an error, of which is told what did not happen. */
static int time_left(int code, const char *what)
{
    char msg[128];
    int64_t left = deadline - now();
    if (left > 0)
        return (int)left;
    snprintf(msg, sizeof msg, "%s in %ld s", what, seconds);
    fail(code, msg, NULL);
}

static void wait_for(int fd, short events, int code, const char *what)
{
    struct pollfd wanted = {.fd = fd, .events = events};
    while (poll(&wanted, 1, time_left(code, what)) <= 0)
        continue;
}

static void open_standard_files(void)
{
    for (int fd = 0; fd < 3; fd++) /* open takes the lowest number that is free */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            fail(IO_FAILURE, "cannot open /dev/null in a closed file's place",
                 strerror(errno), NULL);
}

static void read_timeout(void)
{
    const char *text = getenv("PODNET_TIMEOUT");
    if (text) {
        size_t digits = strspn(text, "0123456789");
        seconds = digits <= 4 && !text[digits] ? strtol(text, NULL, 10) : 0;
    }
    if (seconds < 1 || seconds > MOST_SECONDS)
        fail(BAD_ENVIRONMENT, "PODNET_TIMEOUT is no whole number of seconds from 1 to 3600", NULL);
    deadline = now() + seconds * 1000;
}

/* Tell whether it is for the agent; of variables of one name only the first one counts. */
static int is_forwarded(char **entry)
{
    const char *equals = strchr(*entry, '=');
    if (!equals || (strncmp(*entry, "CNI_", 4) && strncmp(*entry, "PODNET_", 7) &&
                    strncmp(*entry, "TRACEPARENT=", 12) && strncmp(*entry, "TRACESTATE=", 11)))
        return 0;
    for (char **earlier = environ; earlier != entry; earlier++)
        if (!strncmp(*earlier, *entry, (size_t)(equals - *entry) + 1))
            return 0;
    return 1;
}

static void add_environment(struct bytes *request)
{
    size_t start = request->size;
    for (char **entry = environ; *entry; entry++) {
        if (is_forwarded(entry))
            append(request, *entry, strlen(*entry) + 1);
        if (request->size - start > MOST_ENVIRONMENT)
            fail(BAD_ENVIRONMENT, "the variables for CNI and podnet are larger than 256 KiB", NULL);
    }
}

static int reads_stdin(void)
{
    const char *verb = getenv("CNI_COMMAND");
    if (!verb || !*verb)
        return !isatty(0);
    return strcmp(verb, "VERSION") != 0; /* some callers leave it open */
}

static void add_stdin(struct bytes *request)
{
    size_t start = request->size;
    for (ssize_t got = -1; got != 0;) {
        make_room(request, 1);
        wait_for(0, POLLIN, IO_FAILURE, "the network config did not end");
        got = read(0, request->data + request->size, request->room - request->size);
        if (got < 0 && errno != EINTR && errno != EAGAIN)
            fail(IO_FAILURE, "cannot read the network config from stdin", strerror(errno), NULL);
        request->size += got > 0 ? (size_t)got : 0;
        if (request->size - start > MOST_STDIN)
            fail(BAD_CONFIG, "network config is larger than 8 MiB", NULL);
    }
}

/* Return the path of the plugin that needs no agent, if there is one beside this file. */
static const char *find_fallback(void)
{
    static char path[4096 + sizeof SHIM_FALLBACK];
    struct stat own, other;
    ssize_t length = readlink("/proc/self/exe", path, 4096);
    char *slash = length > 0 && length < 4096 ? strrchr(path, '/') : NULL;
    if (!slash)
        return NULL;
    memcpy(slash + 1, SHIM_FALLBACK, sizeof SHIM_FALLBACK);
    if (stat("/proc/self/exe", &own) || stat(path, &other) || !S_ISREG(other.st_mode) ||
        (own.st_dev == other.st_dev && own.st_ino == other.st_ino) || access(path, X_OK))
        return NULL;
    return path;
}

/* Have stdin hold again what was read from it. */
static int restore_stdin(const char *data, size_t size)
{
    int fd = memfd_create("stdin", 0);
    if (fd < 0)
        fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    while (size > 0) {
        ssize_t done = write(fd, data, size);
        if (done < 0 && errno != EINTR)
            return -1;
        data += done > 0 ? done : 0;
        size -= done > 0 ? (size_t)done : 0;
    }
    return lseek(fd, 0, SEEK_SET) || dup2(fd, 0) ? -1 : close(fd);
}

/* Return a connected socket; -1 if there is none, which errno tells of. */
static int connect_agent(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path); /* it fits: main has looked */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address)) {
        if (errno != EAGAIN && errno != EINTR)
            return -1;
        poll(NULL, 0, BUSY_PAUSE_MS); /* the backlog is full */
        time_left(TRY_LATER, NO_TIME);
    }
    return fd;
}

/* Run the plugin that needs no agent, if that is why there is no connection; else tell why. */
static void do_without_agent(const char *path, char **argv, const struct bytes *config)
{
    const char *reason = strerror(errno), *fallback;
    if (errno == EACCES || errno == EPERM)
        fail(TRY_LATER, "podnet's agent may not be asked", "this user may not use the socket ",
             path, NULL);
    if (errno != ENOENT && errno != ECONNREFUSED && errno != ENOTDIR)
        fail(TRY_LATER, "podnet's agent cannot be asked", path, ": ", reason, NULL);
    fallback = find_fallback();
    if (!fallback)
        fail(TRY_LATER, NO_AGENT, "nothing listens on ", path,
             ": start `podnet agent`, or `systemctl start podnet-agent`", NULL);
    if (!config || !restore_stdin(config->data, config->size)) {
        /* Of a file that begins with #! the kernel tells its interpreter the path alone. */
        setenv("PODNET_CALLED_AS", argv[0] ? argv[0] : "", 1);
        execv(fallback, argv);
    }
    fail(TRY_LATER, NO_AGENT, "nothing listens on ", path, ", and ", fallback,
         " cannot be run: ", strerror(errno), NULL);
}

/* Send the request. Whoever hangs up on it may have answered first: reading shows it. */
static void send_request(int fd, const struct bytes *request)
{
    for (size_t sent = 0; sent < request->size;) {
        ssize_t done = send(fd, request->data + sent, request->size - sent, MSG_NOSIGNAL);
        if (done >= 0)
            sent += (size_t)done;
        else if (errno == EAGAIN)
            wait_for(fd, POLLOUT, TRY_LATER, NO_TIME);
        else if (errno != EINTR)
            return;
    }
}

static struct answer receive_answer(int fd, struct bytes *received)
{
    struct answer answer;
    for (enum reading read = INCOMPLETE; read != WHOLE;) {
        make_room(received, 1);
        wait_for(fd, POLLIN, TRY_LATER, NO_TIME);
        ssize_t got = recv(fd, received->data + received->size, received->room - received->size, 0);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            fail(TRY_LATER, "podnet's agent broke off", "it may have done what it was asked", NULL);
        received->size += (size_t)got;
        read = read_answer(received->data, received->size, &answer);
        if (read == NO_ANSWER)
            fail(TRY_LATER, "podnet's agent answered something that is no answer", NULL);
    }
    return answer;
}

#ifndef SHIM_FUZZ
int main(int argc, char **argv)
{
    static struct bytes request, received;
    open_standard_files();
    const char *called = argc > 0 ? argv[0] : "";
    const char *name = strrchr(called, '/') ? strrchr(called, '/') + 1 : called;
    const char *path = getenv("PODNET_SOCKET");
    if (!path || !*path)
        path = SHIM_SOCKET;
    if (strlen(name) > MOST_NAME)
        fail(BAD_ENVIRONMENT, "the plugin's name is longer than 255 bytes", NULL);
    if (strlen(path) >= sizeof ((struct sockaddr_un *)0)->sun_path)
        fail(BAD_ENVIRONMENT, "PODNET_SOCKET is longer than 107 bytes", NULL);
    read_timeout();

    append(&request, "PDN1 its numbers...", REQUEST_HEADER);
    append(&request, name, strlen(name));
    size_t environment_at = request.size;
    add_environment(&request);
    size_t config_at = request.size;
    int has_stdin = reads_stdin();
    if (has_stdin)
        add_stdin(&request);

    int fd = connect_agent(path);
    struct bytes config = {.data = request.data + config_at, .size = request.size - config_at};
    if (fd < 0)
        do_without_agent(path, argv, has_stdin ? &config : NULL);
    put_number(request.data + 4, strlen(name));
    put_number(request.data + 8, config_at - environment_at);
    put_number(request.data + 12, config.size);
    put_number(request.data + 16, (size_t)time_left(TRY_LATER, NO_TIME));
    send_request(fd, &request);
    struct answer answer = receive_answer(fd, &received);
    signal(SIGPIPE, SIG_IGN);
    relay(2, received.data + ANSWER_HEADER + answer.out, answer.err);
    relay(1, received.data + ANSWER_HEADER, answer.out);
    return (int)answer.code;
}
#endif
