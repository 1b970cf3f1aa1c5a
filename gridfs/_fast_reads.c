/* Answers READs whose bytes lie in memory, in a thread without Python (gridfs/fast_reads.py drives this;
 * docs/decisions/fast-reads.md).
 *
 * Who reads one file after the other waits for one answer at a time.  By Python an answer takes 70 us of processor
 * and a turn at the GIL, which whatever brings the next bytes needs too.  So Python says which pieces of which files
 * lie where (gridfs_put), and while there are some, this thread reads the FUSE device in place of Python's event loop:
 * what it can answer it answers, and everything else it hands on.
 *
 *   Python in charge     its event loop polls `poll_fd`, an epoll set with the device in it, and reads the device
 *   thread in charge     the device is out of the set; requests handed on lie in a queue, and an eventfd in the set
 *                        says so.  fuse_session_receive_buf (_zero_open.c) takes them from there, and libfuse is shown
 *                        them where they lie: of its own buffer only itself knows the size
 *
 * gridfs_take_charge begins the second; the thread ends it when it has had nothing to answer for a while.  A request
 * can be read by either at any time, and answered by either: the kernel knows it by its number alone.
 *
 * The bytes belong to Python, which calls gridfs_drop before it uses a buffer for anything else; `table_lock` is held
 * for the whole of an answer, so that when gridfs_drop returns, nobody looks at the buffer any more.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 30
#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define SETS (1u << 14)
#define WAYS 4
#define SLOTS 1024
#define PAGE 4096
#define PIECE (1u << 20) /* what the kernel asks for at most */
#define LARGEST_REQUEST (4u << 20) /* libfuse's own buffer is not larger before its version 3.17 */
#define MISSES_BEFORE_HANDING_BACK 32
#define IDLE_MS 100

struct piece {
    uint64_t inode;
    uint32_t number;       /* the MiB of the file that it is, or the last of it */
    uint32_t offset, size; /* in the slot's buffer */
    uint32_t slot, generation;
};

struct slot {
    const char *base;
    uint32_t generation;
    int is_listed; /* in `served` */
    uint64_t reads, bytes, stop;
};

struct request {
    struct request *next;
    size_t size;
    char bytes[];
};

static struct piece pieces[SETS][WAYS];
static struct slot slots[SLOTS];
static uint32_t served[SLOTS], served_count;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t charge_lock = PTHREAD_MUTEX_INITIALIZER; /* everything below */
static pthread_cond_t charge_changed = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int is_running, is_in_charge, is_ending;
static struct request *first_request, **last_request = &first_request;
static int device = -1, poll_fd = -1, queue_event = -1, end_event = -1;

/* Where small files lie in an image: inode n at begin + (n << shift). */
static uint64_t image_node, image_begin, image_end, image_shift;

static struct piece *set_of(uint64_t inode, uint64_t number)
{
    return pieces[((inode << 20 ^ number) * 0x9e3779b97f4a7c15u) >> 50];
}

/* Shows *count* pieces of files under *number*. Each is four values: inode, number of the piece, offset in *base*,
 * size. */
void gridfs_put(uint32_t number, const char *base, size_t count, const uint64_t *shown)
{
    struct slot *slot = &slots[number];

    pthread_mutex_lock(&table_lock);
    slot->base = base;
    for (size_t i = 0; i < count; i++, shown += 4) {
        struct piece *set = set_of(shown[0], shown[1]), *place = &set[shown[2] / PAGE % WAYS];
        for (int way = 0; way < WAYS; way++) {
            if (set[way].inode == shown[0] && set[way].number == shown[1]) {
                place = &set[way];
                break;
            }
            if (set[way].generation != slots[set[way].slot].generation)
                place = &set[way]; /* of a part that is gone */
        }
        *place = (struct piece){shown[0], shown[1], shown[2], shown[3], number, slot->generation};
    }
    pthread_mutex_unlock(&table_lock);
}

/* From here on nothing of this slot is answered, and its buffer is looked at by nobody. What was answered is for
 * gridfs_drain. */
void gridfs_drop(uint32_t number)
{
    pthread_mutex_lock(&table_lock);
    slots[number].generation++;
    slots[number].base = NULL;
    pthread_mutex_unlock(&table_lock);
}

/* What was answered since the last call: (slot, reads, bytes, end of the last) of each slot; returns how many. *rows*
 * has room for all slots. */
size_t gridfs_drain(uint64_t *rows)
{
    size_t count;

    if (!__atomic_load_n(&served_count, __ATOMIC_RELAXED))
        return 0;
    pthread_mutex_lock(&table_lock);
    for (count = 0; count < served_count; count++, rows += 4) {
        struct slot *slot = &slots[served[count]];
        rows[0] = served[count];
        rows[1] = slot->reads;
        rows[2] = slot->bytes;
        rows[3] = slot->stop;
        slot->reads = slot->bytes = slot->stop = 0;
        slot->is_listed = 0;
    }
    served_count = 0;
    pthread_mutex_unlock(&table_lock);
    return count;
}

static void count(uint32_t number, uint64_t bytes, uint64_t stop)
{
    struct slot *slot = &slots[number];

    if (!slot->is_listed) {
        slot->is_listed = 1;
        served[served_count] = number;
        __atomic_store_n(&served_count, served_count + 1, __ATOMIC_RELAXED);
    }
    slot->reads++;
    slot->bytes += bytes;
    if (stop > slot->stop)
        slot->stop = stop;
}

static const struct piece *find(uint64_t inode, uint64_t number)
{
    for (struct piece *piece = set_of(inode, number), *end = piece + WAYS; piece < end; piece++) {
        const struct slot *slot = &slots[piece->slot];
        if (piece->inode == inode && piece->number == number && piece->generation == slot->generation && slot->base)
            return piece;
    }
    return NULL;
}

/* How many bytes of the *wanted* ones from *inside* a piece on lie in its slot; 0 unless all do that the file has. */
static uint64_t held(const struct piece *piece, uint64_t inside, uint64_t wanted)
{
    const struct piece *last = piece;
    uint64_t size = piece->size;

    if (inside + wanted > size && last->size == PIECE) { /* the file may go on behind it */
        last = find(piece->inode, piece->number + 1);
        if (!last || last->slot != piece->slot || last->offset != piece->offset + PIECE)
            return 0;
        size += last->size;
    }
    if (inside >= size || (inside + wanted > size && last->size == PIECE))
        return 0;
    return size - inside < wanted ? size - inside : wanted;
}

/* Whether the request was a READ of what is shown, and is answered. */
static int answer(const char *bytes, size_t size)
{
    static const char zeros[PAGE];
    const struct fuse_in_header *header = (const void *)bytes;
    const struct fuse_read_in *wanted = (const void *)(header + 1);
    uint64_t inode = header->nodeid, inside, length = 0, padding = 0;
    const struct piece *piece;

    if (header->opcode != FUSE_READ || size < sizeof *header + sizeof *wanted)
        return 0;
    inside = wanted->offset;
    if (image_node && inode == image_node) {
        if (inside < image_begin || inside >= image_end)
            return 0;
        inode = (inside - image_begin) >> image_shift;
        inside = (inside - image_begin) & ((1ull << image_shift) - 1);
    }
    pthread_mutex_lock(&table_lock);
    piece = find(inode, inside / PIECE);
    inside %= PIECE;
    if (piece)
        length = held(piece, inside, wanted->size);
    if (image_node && header->nodeid == image_node)
        padding = wanted->size - length; /* EROFS wants whole pages */
    if (length && padding < PAGE) {
        const char *begin = slots[piece->slot].base + piece->offset + inside;
        struct fuse_out_header reply = {sizeof reply + length + padding, 0, header->unique};
        struct iovec parts[3] = {{&reply, sizeof reply}, {(void *)begin, length}, {(void *)zeros, padding}};
        /* ENOENT: who asked was killed meanwhile.  Whatever else is wrong with the device, the next read will tell. */
        (void)!writev(device, parts, padding ? 3 : 2);
        count(piece->slot, length, piece->offset + inside + length);
    } else {
        length = 0;
    }
    pthread_mutex_unlock(&table_lock);
    return length > 0;
}

/* The kernel forgets inodes.  It expects no answer, and nobody has anything to forget; but it says as many at once as
 * fit the buffer, 262,000 in LARGEST_REQUEST, of which Python would make a list. */
static int is_forget(const char *bytes)
{
    const struct fuse_in_header *header = (const void *)bytes;

    return header->opcode == FUSE_FORGET || header->opcode == FUSE_BATCH_FORGET;
}

static void hand_on(const char *bytes, size_t size)
{
    struct request *request = malloc(sizeof *request + size);

    if (!request) { /* somebody may wait for an answer */
        const struct fuse_in_header *header = (const void *)bytes;
        struct fuse_out_header reply = {sizeof reply, -ENOMEM, header->unique};
        (void)!write(device, &reply, sizeof reply);
        return;
    }
    request->next = NULL;
    request->size = size;
    memcpy(request->bytes, bytes, size);
    pthread_mutex_lock(&charge_lock);
    *last_request = request;
    last_request = &request->next;
    eventfd_write(queue_event, 1);
    pthread_mutex_unlock(&charge_lock);
}

static void hand_back(void)
{
    struct epoll_event event = {.events = EPOLLIN};

    pthread_mutex_lock(&charge_lock);
    is_in_charge = 0;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, device, &event);
    pthread_mutex_unlock(&charge_lock);
}

/* Reads the device until there is nothing to answer for a while. */
static int serve(char *buffer)
{
    struct pollfd waited[2] = {{device, POLLIN, 0}, {end_event, POLLIN, 0}};
    int misses = 0;

    while (misses < MISSES_BEFORE_HANDING_BACK) {
        int ready = poll(waited, 2, IDLE_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || waited[1].revents)
            break;
        ssize_t size = read(device, buffer, LARGEST_REQUEST);
        if (size < 0) {
            if (errno == EAGAIN || errno == EINTR || errno == ENOENT)
                continue;
            return 0; /* the mount is gone: the event loop will find out by itself */
        }
        if (answer(buffer, size)) {
            misses = 0;
        } else if (!is_forget(buffer)) {
            hand_on(buffer, size);
            misses++;
        }
    }
    return 1;
}

static void *run(void *buffer)
{
    int goes_on = 1;

    pthread_mutex_lock(&charge_lock);
    while (goes_on && !is_ending) {
        if (!is_in_charge) {
            pthread_cond_wait(&charge_changed, &charge_lock);
            continue;
        }
        pthread_mutex_unlock(&charge_lock);
        goes_on = serve(buffer);
        hand_back();
        pthread_mutex_lock(&charge_lock);
    }
    is_ending = 1; /* and charge is not taken again */
    pthread_mutex_unlock(&charge_lock);
    free(buffer);
    return NULL;
}

/* What an earlier session has left. */
static void forget_all(void)
{
    int *opened[] = {&poll_fd, &queue_event, &end_event};

    while (first_request) {
        struct request *request = first_request;
        first_request = request->next;
        free(request);
    }
    last_request = &first_request;

    for (int **each = opened; each < opened + 3; each++) {
        if (**each >= 0)
            close(**each);
        **each = -1;
    }
}

/* Begins with the event loop in charge. *node* and the rest say where small files lie in the image; 0: there is none.
 * Returns the descriptor to poll in place of the device, or -1. */
int gridfs_start(int fd, uint64_t node, uint64_t begin, uint64_t end, uint64_t shift)
{
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t all, before;
    char *buffer = malloc(LARGEST_REQUEST);

    forget_all();
    image_node = node, image_begin = begin, image_end = end, image_shift = shift;
    device = fd;
    is_ending = is_in_charge = 0;
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++)
        slot->generation++; /* whatever was in the table is of a part that is gone */
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    queue_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    end_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (buffer && poll_fd >= 0 && queue_event >= 0 && end_event >= 0 &&
        !epoll_ctl(poll_fd, EPOLL_CTL_ADD, device, &event) &&
        !epoll_ctl(poll_fd, EPOLL_CTL_ADD, queue_event, &event)) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Python's threads */
        is_running = !pthread_create(&thread, NULL, run, buffer);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (is_running)
            return poll_fd;
    }
    free(buffer);
    forget_all();
    return -1;
}

void gridfs_take_charge(void)
{
    pthread_mutex_lock(&charge_lock);
    if (is_running && !is_in_charge && !is_ending && !epoll_ctl(poll_fd, EPOLL_CTL_DEL, device, NULL)) {
        is_in_charge = 1;
        pthread_cond_signal(&charge_changed);
    }
    pthread_mutex_unlock(&charge_lock);
}

/* Ends the thread: before the device is closed, and before the last buffer goes. Requests handed on stay for the event
 * loop. */
void gridfs_end(void)
{
    if (!is_running)
        return;
    pthread_mutex_lock(&charge_lock);
    is_ending = 1;
    pthread_cond_signal(&charge_changed);
    pthread_mutex_unlock(&charge_lock);
    eventfd_write(end_event, 1);
    pthread_join(thread, NULL);
    is_running = 0;
}

/* Puts a request that was handed on into *buf*, and returns its size; 0 when there is none. Its memory is its own, until
 * gridfs_let_go. */
ssize_t gridfs_handed_on(struct fuse_buf *buf)
{
    struct request *request;
    eventfd_t ignored;

    if (queue_event < 0)
        return 0;
    pthread_mutex_lock(&charge_lock);
    request = first_request;
    if (request)
        first_request = request->next;
    if (!first_request) {
        last_request = &first_request;
        eventfd_read(queue_event, &ignored);
    }
    pthread_mutex_unlock(&charge_lock);
    if (!request)
        return 0;
    buf->flags = 0;
    buf->mem = request->bytes;
    return buf->size = request->size;
}

void gridfs_let_go(struct fuse_buf *buf)
{
    free((char *)buf->mem - offsetof(struct request, bytes));
}
