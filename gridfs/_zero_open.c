/* Lets the kernel open files without asking the daemon (gridfs/zero_open.py loads this; docs/decisions/zero-open.md).
 *
 * A FUSE server that answers OPEN with ENOSYS is never asked again: the kernel then opens files by itself, keeps their
 * pages and sends no RELEASE (fs/fuse/file.c, fuse_file_open).  The same holds for OPENDIR.  From then on READ, READDIR
 * and READDIRPLUS carry fh = 0, and pyfuse3 hands its handlers only fh: the inode would be lost.
 *
 * So this library stands in for functions of libfuse, by being loaded with RTLD_GLOBAL before pyfuse3:
 *
 *   fuse_session_process_buf   copies the request's node id into its fh, then calls libfuse's own.  It works on the
 *                              wire format, which is kernel ABI (linux/fuse.h) and the same for every libfuse 3;
 *                              hooking the table of operations would fail silently from libfuse 3.17 on, whose headers
 *                              call another symbol than fuse_session_new.  A request that the thread in C handed on
 *                              (_fast_reads.c) takes the place of pyfuse3's buffer, into which nothing was read.
 *   fuse_session_receive_buf   reads without blocking.  A request whose caller is killed leaves the queue between the
 *                              daemon's poll and its read; the read would then block with the GIL held, and with it
 *                              everyone who waits for the daemon, until some other request comes.  pyfuse3 knows EINTR
 *                              as "try again" and takes EAGAIN for a fatal error, so the one is told as the other.
 *
 *   fuse_reply_buf             sends zeros behind the answer when it was told to: EROFS wants whole pages of an image,
 *                              and what a file lacks to one would cost a copy of the file.
 *
 * Everything runs in the thread of the event loop; the counters are read there too.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 30
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <sys/uio.h>

/* Of everything that Python calls or reads here; zero_open.py has the same number, or uses nothing of this. */
unsigned int gridfs_library_version = 3;

/* Requests that passed through here: while this is 0 no ENOSYS may be answered, every read would be one of inode 0. */
unsigned long gridfs_requests_seen;

/* What the kernel said in INIT that it can do: FUSE_NO_OPEN_SUPPORT, FUSE_NO_OPENDIR_SUPPORT. */
unsigned int gridfs_kernel_flags;

/* _fast_reads.c */
ssize_t gridfs_handed_on(struct fuse_buf *buf);
void gridfs_let_go(struct fuse_buf *buf);

/* The request that was handed on and is to be processed next: pyfuse3 does so in the step in which it receives. */
static struct fuse_buf handed_on;

/* Zeros to send behind the next answer; at most a page. */
unsigned long gridfs_padding;

int fuse_reply_buf(fuse_req_t request, const char *data, size_t size)
{
    static int (*original)(fuse_req_t, const char *, size_t);
    static char zeros[4096];
    struct iovec parts[2] = {{(char *)data, size}, {zeros, gridfs_padding}};

    if (!original)
        original = dlsym(RTLD_NEXT, "fuse_reply_buf");
    if (!gridfs_padding || gridfs_padding > sizeof zeros)
        return original(request, data, size);
    gridfs_padding = 0;
    return fuse_reply_iov(request, parts, 2);
}

void fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buf)
{
    static void (*original)(struct fuse_session *, const struct fuse_buf *);
    struct fuse_in_header *header;

    if (!original)
        original = dlsym(RTLD_NEXT, "fuse_session_process_buf");
    if (handed_on.mem)
        buf = &handed_on;
    header = buf->mem;
    /* A buffer that is a pipe (splice) holds only large writes; its header is not in memory. */
    if (!(buf->flags & FUSE_BUF_IS_FD) && buf->size >= sizeof *header) {
        switch (header->opcode) {
        case FUSE_READ:
        case FUSE_READDIR:
        case FUSE_READDIRPLUS:
            if (buf->size >= sizeof *header + sizeof(struct fuse_read_in))
                ((struct fuse_read_in *)(header + 1))->fh = header->nodeid;
            break;
        case FUSE_INIT:
            if (buf->size >= sizeof *header + offsetof(struct fuse_init_in, flags) + sizeof(unsigned int))
                gridfs_kernel_flags = ((struct fuse_init_in *)(header + 1))->flags;
            break;
        }
        gridfs_requests_seen++;
    }
    original(session, buf);
    if (handed_on.mem) {
        gridfs_let_go(&handed_on); /* pyfuse3 has copied what its handlers need */
        handed_on.mem = NULL;
    }
}

int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buf)
{
    static int (*original)(struct fuse_session *, struct fuse_buf *);
    static int nonblocking_fd = -1;
    int fd = fuse_session_fd(session), result;

    result = gridfs_handed_on(&handed_on);
    if (result)
        return result;
    if (!original)
        original = dlsym(RTLD_NEXT, "fuse_session_receive_buf");
    if (fd != nonblocking_fd) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        nonblocking_fd = fd;
    }
    result = original(session, buf);
    return result == -EAGAIN ? -EINTR : result;
}
