/* The load: one thread, epoll, connections that are kept alive.

   load PORT REQUEST_FILE CONNECTIONS SECONDS [RATE]

   REQUEST_FILE holds one whole HTTP request, which is sent again and again. Without RATE every connection sends its
   next request when the last answer is complete (closed loop). With RATE, so many requests a second are due at even
   distances, whatever became of the earlier ones (open loop): one that finds no free connection waits, and its latency
   counts from when it was due. After SECONDS nothing new is sent, and what is under way may end within DRAIN_S.

   An answer counts when its status is 200 and it is complete: by its length, or to its last chunk. "events" counts the
   blank lines that end server-sent events. Times are microseconds; "first" is the first byte of an answer's body.
   Prints one JSON object. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define DRAIN_S 20
#define HEAD_ROOM 8192
#define MAX_FD 65536

enum part { IDLE, HEAD, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

struct connection {
    enum part part;
    char head[HEAD_ROOM];
    size_t head_size, left, sent;
    int close_after, line_feeds, status;
    long long start_ns, first_ns;
};

struct samples {
    float *us;
    size_t count, room;
};

static struct connection *connections[MAX_FD];
static struct sockaddr_in address;
static struct samples whole, first;
static char *request, scratch[1 << 18];
static size_t request_size;
static long long events, requests, errors, refused, body_bytes;
static int epoll_fd, *idle, idle_count, under_way, stopping, closed_loop;

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void add(struct samples *to, long long ns) {
    if (to->count == to->room) {
        to->room = to->room ? to->room * 2 : 65536;
        if (!(to->us = realloc(to->us, to->room * sizeof *to->us))) abort();
    }
    to->us[to->count++] = ns / 1000.0f;
}

static int compare(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static void print(const char *name, struct samples *of) {
    static const struct { const char *name; double share; } marks[] = {{"p50", .50}, {"p90", .90}, {"p99", .99}, {"max", 1}};
    qsort(of->us, of->count, sizeof *of->us, compare);
    for (int i = 0; i < 4; i++) {
        size_t at = marks[i].share * of->count;
        printf("\"%s_%s_us\": %.1f, ", name, marks[i].name, of->count ? of->us[at < of->count ? at : of->count - 1] : 0.0);
    }
}

static int dial(void) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fd >= MAX_FD || connect(fd, (void *)&address, sizeof address)) { perror("load: connect"); exit(1); }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!connections[fd] && !(connections[fd] = malloc(sizeof(struct connection)))) abort();
    connections[fd]->part = IDLE;
    struct epoll_event change = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &change);
    return fd;
}

/* A request is about 1 KB, so it always fits the send buffer of a connection that is idle. */
static void ask(int fd, long long start_ns) {
    struct connection *c = connections[fd];
    c->part = HEAD;
    c->head_size = 0;
    c->line_feeds = 0;
    c->start_ns = start_ns;
    c->first_ns = 0;
    under_way++;
    if (send(fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) shutdown(fd, SHUT_RDWR);
}

static void next(int fd) {
    if (closed_loop && !stopping) ask(fd, now_ns());
    else idle[idle_count++] = fd;
}

static void fail(int fd) {
    if (connections[fd]->part != IDLE) { errors++; under_way--; }
    else for (int i = 0; i < idle_count; i++) if (idle[i] == fd) { idle[i] = idle[--idle_count]; break; }
    close(fd);
    next(dial());
}

static void complete(int fd) {
    struct connection *c = connections[fd];
    long long now = now_ns();
    requests++;
    if (c->status != 200) refused++;
    add(&whole, now - c->start_ns);
    if (c->first_ns) add(&first, c->first_ns - c->start_ns);
    c->part = IDLE;
    under_way--;
    if (c->close_after) { close(fd); fd = dial(); }
    next(fd);
}

/* Reads the head; gives what of the bytes it took, or -1 when it is no answer. */
static long take_head(struct connection *c, const char *bytes, size_t size) {
    size_t before = c->head_size, take = size < HEAD_ROOM - 1 - before ? size : HEAD_ROOM - 1 - before;
    memcpy(c->head + before, bytes, take);
    c->head[c->head_size += take] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return take == size ? (long)size : -1;
    end[2] = 0;
    if (sscanf(c->head, "HTTP/1.1 %d", &c->status) != 1) return -1;
    c->close_after = strcasestr(c->head, "\r\nconnection: close") != NULL;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) { c->part = CHUNK_SIZE; c->left = 0; }
    else if (length) { c->part = BODY; c->left = strtoul(length + 17, NULL, 10); }
    else return -1;
    return (long)(end + 4 - c->head - before);
}

static void take_body(struct connection *c, const char *bytes, size_t size) {
    if (!c->first_ns) c->first_ns = now_ns();
    body_bytes += size;
    for (const char *at = bytes, *end = bytes + size; at < end; at++) {
        if (*at == '\n') { if (++c->line_feeds == 2) { events++; c->line_feeds = 0; } }
        else if (*at != '\r') {
            c->line_feeds = 0;
            const char *line = memchr(at, '\n', end - at);
            if (!line) break;
            at = line - 1;
        }
    }
}

static void take(int fd, const char *bytes, size_t size) {
    struct connection *c = connections[fd];
    while (size > 0 || (c->part == BODY && c->left == 0)) {
        size_t part = size;
        switch (c->part) {
        case IDLE: fail(fd); return;
        case HEAD: {
            long took = take_head(c, bytes, size);
            if (took < 0) { fail(fd); return; }
            part = took;
            break;
        }
        case BODY:
        case CHUNK:
            part = size < c->left ? size : c->left;
            if (part) take_body(c, bytes, part);
            c->left -= part;
            if (c->left == 0 && c->part == CHUNK) c->part = CHUNK_END;
            else if (c->left == 0) { complete(fd); return; }
            break;
        case CHUNK_SIZE: /* 1a\r\n */
            part = 1;
            if (*bytes == '\n') c->part = c->left ? CHUNK : TRAILER;
            else if (*bytes >= '0' && *bytes <= '9') c->left = c->left * 16 + (*bytes - '0');
            else if ((*bytes | 32) >= 'a' && (*bytes | 32) <= 'f') c->left = c->left * 16 + ((*bytes | 32) - 'a' + 10);
            break;
        case CHUNK_END: /* \r\n */
        case TRAILER:   /* \r\n, no trailers */
            part = 1;
            if (*bytes != '\n') break;
            if (c->part == TRAILER) { complete(fd); return; }
            c->part = CHUNK_SIZE;
            break;
        }
        bytes += part;
        size -= part;
    }
}

static void receive(int fd) {
    ssize_t got = recv(fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { fail(fd); return; }
    take(fd, scratch, got);
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); exit(1); }
    request = malloc(1 << 20);
    request_size = fread(request, 1, 1 << 20, file);
    fclose(file);
}

int main(int count, char **words) {
    if (count < 5) { fprintf(stderr, "usage: load PORT REQUEST_FILE CONNECTIONS SECONDS [RATE]\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    read_request(words[2]);
    int wanted = atoi(words[3]);
    double seconds = atof(words[4]), rate = count > 5 ? atof(words[5]) : 0;
    closed_loop = rate == 0;
    idle = calloc(MAX_FD, sizeof *idle);
    epoll_fd = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event change = {.events = EPOLLIN, .data.fd = timer}, ready[512];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &change);
    for (int i = 0; i < wanted; i++) idle[idle_count++] = dial();
    long long begin = now_ns(), stop = begin + seconds * 1e9, due = begin, late = 0, sent = 0, gap = closed_loop ? 0 : 1e9 / rate;
    if (closed_loop) for (int i = 0, all = idle_count; i < all; i++) { idle_count--; ask(idle[idle_count], now_ns()); }
    long long backlog = 0; /* due and without a connection */
    for (;;) {
        long long now = now_ns();
        stopping = now >= stop;
        if (stopping && (under_way == 0 || now >= stop + DRAIN_S * 1000000000LL)) break;
        if (!closed_loop) {
            while (due <= now && due < stop) { backlog++; due += gap; }
            while (backlog > 0 && idle_count > 0) {
                long long was_due = begin + sent++ * gap;
                late += now - was_due;
                backlog--;
                ask(idle[--idle_count], was_due);
            }
            struct itimerspec at = {.it_value = {due / 1000000000LL, due % 1000000000LL}};
            if (due < stop) timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        int found = epoll_wait(epoll_fd, ready, 512, 20);
        for (int i = 0; i < found; i++) {
            if (ready[i].data.fd != timer) { receive(ready[i].data.fd); continue; }
            unsigned long long fired;
            if (read(timer, &fired, sizeof fired) < 0) continue;
        }
    }
    double elapsed = (now_ns() - begin) / 1e9;
    errors += under_way + backlog;
    printf("{");
    print("whole", &whole);
    print("first", &first);
    printf("\"requests\": %lld, \"errors\": %lld, \"refused\": %lld, \"events\": %lld, \"body_bytes\": %lld, \"elapsed_s\": %.4f, \"mean_late_us\": %.1f}\n",
        requests, errors, refused, events, body_bytes, elapsed, sent ? late / 1000.0 / sent : 0.0);
    return 0;
}
