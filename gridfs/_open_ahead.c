/* Has the kernel read files of an image before they are asked for (gridfs/vfs_push.py; docs/decisions/fast-reads.md).
 *
 * In C because Python would give up the GIL and wait for it again three times for each file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FILEID_INO32_GEN 1    /* linux/exportfs.h: node, generation */
#define FILEID_INO64_GEN 0x81 /* upper and lower half of the node, generation; EROFS's from Linux 6.17 on */

/* Begins to read the files of these numbers (EROFS's nid) in the image that is mounted at *path*: how many it could.
 * Returns before their bytes are there, but may have to wait for their inodes. */
size_t gridfs_open_ahead(const char *path, const uint32_t *nodes, size_t count)
{
    struct {
        struct file_handle head;
        uint32_t words[MAX_HANDLE_SZ / 4];
    } handle = {.head.handle_bytes = MAX_HANDLE_SZ};
    struct statfs about;
    int mount_id, directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t opened = 0;

    /* It may have been unmounted: a number would then mean a file of what lies below. */
    if (directory < 0 || fstatfs(directory, &about) || about.f_type != EROFS_SUPER_MAGIC_V1 ||
        name_to_handle_at(directory, "", &handle.head, &mount_id, AT_EMPTY_PATH))
        count = 0;
    for (size_t i = 0; i < count; i++) {
        memset(handle.words, 0, sizeof handle.words);
        if (handle.head.handle_type == FILEID_INO64_GEN)
            handle.words[1] = nodes[i];
        else if (handle.head.handle_type == FILEID_INO32_GEN)
            handle.words[0] = nodes[i];
        else
            break;
        int file = open_by_handle_at(directory, &handle.head, O_RDONLY | O_CLOEXEC);
        if (file < 0 && errno == EPERM)
            break; /* no CAP_DAC_READ_SEARCH */
        if (file < 0)
            continue;
        opened += !posix_fadvise(file, 0, 0, POSIX_FADV_WILLNEED);
        close(file);
    }
    if (directory >= 0)
        close(directory);
    return opened;
}
