/* SPDX-License-Identifier: Apache-2.0 */
/* languages/load - a directory of language files, or the embedded ones, become a set. In the
 * supervisor, before it splits.
 */
#include "languages/languages.h"
#include "lib/err.h"
#include "lib/fd.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

static int load_embedded(struct language_set *set, struct err *err)
{
    const char *name, *text;
    size_t len;
    int r = 0;
    for (size_t i = 0; r == 0 && (text = languages_embedded(i, &name, &len)); i++)
        r = languages_read(text, len, name, set, err);
    return r;
}

static int load_file(const char *path, struct language_set *set, struct err *err)
{
    auto_free char *text = malloc(LANGUAGE_FILE_BYTES_MAX + 1);
    auto_close int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    size_t len = 0;
    if (!text)
        return err_set(err, "%.150s: out of memory", path);
    for (ssize_t n = 1; n > 0; len += (size_t)n) {
        n = fd < 0 ? -1 : SYS(read(fd, text + len, LANGUAGE_FILE_BYTES_MAX + 1 - len));
        if (n < 0)
            return err_sys(err, "%.150s", path);
    }
    if (len > LANGUAGE_FILE_BYTES_MAX)
        return err_set(err, "%.150s: expected at most %u bytes", path, LANGUAGE_FILE_BYTES_MAX);
    return languages_read(text, len, path, set, err);
}

static int is_language_file(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return e->d_name[0] != '.' && dot && strcmp(dot, ".yaml") == 0;
}

int languages_load(const char *dir, struct language_set *ret, struct err *err)
{
    struct dirent **entries;
    char path[PATH_MAX];
    int r = 0;
    ret->count = 0;
    if (strcmp(dir, "none") == 0)
        return 0;
    if (!*dir)
        return load_embedded(ret, err);
    int n = SYS(scandir(dir, &entries, is_language_file, alphasort));
    if (n < 0)
        return err_sys(err, "languages_dir %.150s", dir);
    for (int i = 0; i < n; i++) {
        if (r == 0 && snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name) >= PATH_MAX)
            r = err_set(err, "languages_dir: %.150s: the path is too long", entries[i]->d_name);
        if (r == 0)
            r = load_file(path, ret, err);
        free(entries[i]);
    }
    free(entries);
    return r;
}
