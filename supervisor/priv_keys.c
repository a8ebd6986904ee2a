/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/priv_keys - where the keys in force come from.
 *
 * As the policies (priv_policies.c): at start the supervisor reads API_KEYS and the key file
 * itself; on SIGHUP a child that has given up its rights reads the file and leaves a block in a
 * memfd. This process seals it and hands it to the engine, which hands it to the frontend: neither
 * looks inside. A child that fails leaves its reason instead, and the old keys stay. What API_KEYS
 * said is kept as hashes. Whether there are keys at all is decided at the start: a file that has
 * lost its last key lets nobody in, rather than everybody.
 */
#include "keys/keys.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/log.h"
#include "supervisor/priv_impl.h"
#include "supervisor/settings.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* The file's and those of API_KEYS. */
static int read_all(const struct priv *p, struct key_list *ret, struct err *err)
{
    int r = 0;
    if (*p->set->key_file)
        r = keys_read_path(p->set->key_file, ret, err);
    if (r == 0)
        r = keys_join(ret, p->keys, err);
    if (r == 0 && (r = keys_check_list(ret, err)) < 0)
        (void)err_wrap(err, "%.150s", *p->set->key_file ? p->set->key_file : "api_keys (API_KEYS)");
    return r;
}

int priv_load_keys(struct priv *p, char *api_keys, struct err *err)
{
    static struct key_list listed;
    struct key_list all = {0};
    if (!*api_keys && !*p->set->key_file)
        return 0;
    p->keys = &listed;
    int r = keys_read_list(api_keys, &listed, err);
    if (r < 0)
        return err_wrap(err, "api_keys (API_KEYS)");
    r = read_all(p, &all, err);
    if (r == 0)
        r = p->keys_fd = keys_seal(&all, err);
    keys_list_fini(&all);
    return r < 0 ? r : 0;
}

/* ---- reload ------------------------------------------------------------------------------------
 */

_Noreturn static void read_again(const struct priv *p, int fd)
{
    struct key_list list = {0};
    struct err err = {0};
    int r = priv_become_reader(keys_block_bytes(KEYS_MAX));
    if (r < 0) {
        errno = -r;
        (void)err_sys(&err, "confine the reader of keys");
    } else {
        r = read_all(p, &list, &err);
    }
    if (r == 0 && keys_write(&list, fd, &err) == 0)
        _exit(0);
    (void)!ftruncate(fd, 0);
    (void)!pwrite(fd, err.text, strlen(err.text), 0);
    _exit(1);
}

void priv_start_key_reader(struct priv *p)
{
    p->read_keys_again = p->key_reader > 0;
    if (!p->keys || p->key_reader > 0 || p->going_down)
        return;
    p->read_keys_fd = memfd_create("brood-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    pid_t pid = p->read_keys_fd < 0 ? -1 : fork();
    if (pid == 0)
        read_again(p, p->read_keys_fd);
    if (pid < 0) {
        LOG(ERROR, "keys_kept", F_STR("error", strerror(errno)));
        fd_close(&p->read_keys_fd);
        return;
    }
    p->key_reader = pid;
}

int priv_take_keys(struct priv *p, int status)
{
    auto_close int fd = fd_take(&p->read_keys_fd);
    struct err err = {0};
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
        (void)!pread(fd, err.text, sizeof err.text - 1, 0);
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        (void)err_set(&err, "the reader of keys died (wait status %d)", status);
    else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        (void)err_sys(&err, "seal the keys");
    else
        return fd_take(&fd);
    LOG(ERROR, "keys_kept", F_STR("error", err.text));
    return -1;
}
