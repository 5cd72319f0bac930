/* The engine's stand-in: one thread, epoll. It answers any request at once and costs as little as it can.

   upstream PORT        prints "listening" when it accepts; PORT 0 is not allowed

   GET  /metrics        one gauge in vLLM's words; any other GET: a small JSON object
   POST plain           1 KB of JSON, shaped like a chat completion
   POST "stream": true  server-sent events of ~205 bytes, each in a write and an HTTP chunk of its own, then [DONE]

   The request's "user" field says how to stream: "pace-10-chunks-100" is 100 events, 10 ms apart (0: flat out). */

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
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_REQUEST (4 << 20)

struct connection {
    char *in, *out;
    size_t in_size, in_room, out_start, out_size, out_room;
    int open, events_left, pace_ms, usage;
    long long due_ns;
    int next; /* in the queue of paced streams, by descriptor */
};

static struct connection connections[MAX_FD];
static int epoll_fd, queue_head = -1, queue_tail = -1;
static char plain[2048], event_chunk[1024], end_chunk[1024];
static size_t plain_size, event_size, end_size;

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void *room(void *buffer, size_t *have, size_t need) {
    if (need <= *have) return buffer;
    *have = need * 2;
    if (!(buffer = realloc(buffer, *have))) abort();
    return buffer;
}

static size_t chunk(char *to, const char *payload) {
    return sprintf(to, "%zx\r\n%s\r\n", strlen(payload), payload);
}

static void prepare(void) {
    char text[1024], body[1536], event[512];
    memset(text, 'w', sizeof text);
    text[690] = 0;
    int size = sprintf(body,
        "{\"id\":\"chatcmpl-0123456789abcdef01234567\",\"object\":\"chat.completion\",\"created\":1764000000,\"model\":\"bench\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":100,\"total_tokens\":300}}", text);
    plain_size = sprintf(plain, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, body);
    sprintf(event,
        "data: {\"id\":\"chatcmpl-0123456789abcdef01234567\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,"
        "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    event_size = chunk(event_chunk, event);
    end_size = chunk(end_chunk, "data: [DONE]\n\n");
    end_size += sprintf(end_chunk + end_size, "0\r\n\r\n");
}

static void hang_up(int fd) {
    struct connection *c = &connections[fd];
    c->open = 0; /* a paced stream stays in the queue until its turn, and is left out then */
    c->in_size = c->out_size = c->out_start = 0;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    if (c->due_ns == 0) close(fd);
}

static void watch(int fd, int writable) {
    struct epoll_event change = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &change);
}

static void flush_out(int fd) {
    struct connection *c = &connections[fd];
    while (c->out_start < c->out_size) {
        ssize_t sent = send(fd, c->out + c->out_start, c->out_size - c->out_start, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) { watch(fd, 1); return; }
        if (sent <= 0) { hang_up(fd); return; }
        c->out_start += sent;
    }
    if (c->out_size) { c->out_start = c->out_size = 0; watch(fd, 0); }
}

static void write_out(int fd, const char *bytes, size_t size) {
    struct connection *c = &connections[fd];
    if (!c->open) return;
    if (c->out_size == 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent == (ssize_t)size) return;
        if (sent < 0 && errno != EAGAIN) { hang_up(fd); return; }
        if (sent > 0) { bytes += sent; size -= sent; }
    }
    c->out = room(c->out, &c->out_room, c->out_size + size);
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
    watch(fd, 1);
}

static void end_stream(int fd) {
    if (connections[fd].usage) {
        static const char usage[] =
            "data: {\"id\":\"chatcmpl-0123456789abcdef01234567\",\"object\":\"chat.completion.chunk\",\"created\":1764000000,"
            "\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":100,\"total_tokens\":300}}\n\n";
        char bytes[1024];
        write_out(fd, bytes, chunk(bytes, usage));
    }
    write_out(fd, end_chunk, end_size);
}

static void queue_stream(int fd) {
    connections[fd].next = -1;
    if (queue_tail >= 0) connections[queue_tail].next = fd;
    else queue_head = fd;
    queue_tail = fd;
}

/* Sends what is due. All streams of a run have one pace, so the queue is in order of time. */
static int run_streams(void) {
    long long now = now_ns();
    while (queue_head >= 0) {
        int fd = queue_head;
        struct connection *c = &connections[fd];
        if (c->due_ns > now) return (int)((c->due_ns - now + 999999) / 1000000);
        queue_head = c->next;
        if (queue_head < 0) queue_tail = -1;
        if (!c->open) { c->due_ns = 0; close(fd); continue; }
        write_out(fd, event_chunk, event_size);
        if (--c->events_left > 0) { c->due_ns += c->pace_ms * 1000000LL; queue_stream(fd); }
        else { c->due_ns = 0; if (c->open) end_stream(fd); else close(fd); }
    }
    return 1000;
}

static void answer(int fd, const char *request, const char *body) {
    static const char stream_head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char small[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 59\r\n\r\n"
        "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\"}]}\n";
    static const char metrics[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 55\r\n\r\n"
        "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n";
    struct connection *c = &connections[fd];
    if (!strncmp(request, "GET /metrics", 12)) { write_out(fd, metrics, sizeof metrics - 1); return; }
    if (strncmp(request, "POST", 4)) { write_out(fd, small, sizeof small - 1); return; }
    if (!strstr(body, "\"stream\":true") && !strstr(body, "\"stream\": true")) { write_out(fd, plain, plain_size); return; }
    c->pace_ms = 0;
    c->events_left = 100;
    c->usage = strstr(body, "include_usage") != NULL;
    const char *how = strstr(body, "pace-");
    if (how) sscanf(how, "pace-%d-chunks-%d", &c->pace_ms, &c->events_left);
    write_out(fd, stream_head, sizeof stream_head - 1);
    if (c->pace_ms > 0 && c->events_left > 1) {
        write_out(fd, event_chunk, event_size);
        c->events_left--;
        c->due_ns = now_ns() + c->pace_ms * 1000000LL;
        queue_stream(fd);
        return;
    }
    for (int i = 0; i < c->events_left; i++) write_out(fd, event_chunk, event_size);
    end_stream(fd);
}

static void read_requests(int fd) {
    struct connection *c = &connections[fd];
    c->in = room(c->in, &c->in_room, c->in_size + 16384);
    ssize_t got = recv(fd, c->in + c->in_size, c->in_room - c->in_size - 1, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { hang_up(fd); return; }
    c->in_size += got;
    while (c->open) {
        c->in[c->in_size] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return;
        size_t head = end + 4 - c->in, length = 0;
        *end = 0;
        char *field = strcasestr(c->in, "\r\ncontent-length:");
        if (field) length = strtoul(field + 17, NULL, 10);
        int refused = strcasestr(c->in, "\r\ntransfer-encoding:") != NULL || length > MAX_REQUEST;
        *end = '\r';
        if (refused) { fprintf(stderr, "a request without a length, or too long\n"); hang_up(fd); return; }
        if (c->in_size < head + length) { c->in = room(c->in, &c->in_room, head + length + 1); return; }
        char after = c->in[head + length];
        c->in[head + length] = 0;
        answer(fd, c->in, c->in + head);
        c->in[head + length] = after;
        if (!c->open) return;
        memmove(c->in, c->in + head + length, c->in_size - head - length);
        c->in_size -= head + length;
        if (c->in_size == 0) return;
    }
}

int main(int count, char **words) {
    if (count != 2) { fprintf(stderr, "usage: upstream PORT\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    prepare();
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) { perror("upstream"); return 1; }
    epoll_fd = epoll_create1(0);
    struct epoll_event change = {.events = EPOLLIN, .data.fd = listener}, ready[512];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &change);
    puts("listening");
    fflush(stdout);
    for (;;) {
        int found = epoll_wait(epoll_fd, ready, 512, run_streams());
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            if (fd != listener) {
                if (connections[fd].open && (ready[i].events & EPOLLOUT)) flush_out(fd);
                if (connections[fd].open && (ready[i].events & ~EPOLLOUT)) read_requests(fd);
                continue;
            }
            int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (accepted < 0) continue;
            if (accepted >= MAX_FD) { close(accepted); continue; }
            setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            struct connection *c = &connections[accepted];
            c->open = 1;
            c->in_size = c->out_size = c->out_start = 0;
            c->due_ns = 0;
            change.data.fd = accepted;
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, accepted, &change);
        }
    }
}
