/* SPDX-License-Identifier: Apache-2.0 */
/* t/fuzz/replay - a fuzz target without libFuzzer: gives it each file named on the command line.
 * `make check` replays the corpora with it; a crash found elsewhere is replayed the same way.
 */
#include "lib/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_BYTES_MAX (4u << 20)

static void replay(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        die(1, "%s: %s", path, strerror(errno));
    auto_free uint8_t *room = malloc(INPUT_BYTES_MAX);
    if (!room)
        die(1, "out of memory");
    size_t len = fread(room, 1, INPUT_BYTES_MAX, file);
    if (ferror(file) || !feof(file))
        die(1, "%s: not readable, or longer than %u bytes", path, INPUT_BYTES_MAX);
    (void)fclose(file);
    /* A block of exactly this size, so that asan sees a read beyond it. */
    auto_free uint8_t *data = malloc(len ? len : 1);
    if (!data)
        die(1, "out of memory");
    memcpy(data, room, len);
    (void)LLVMFuzzerTestOneInput(data, len);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        die(1, "no files to replay");
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    printf("%s: %d inputs replayed\n", program_invocation_short_name, argc - 1);
    return 0;
}
