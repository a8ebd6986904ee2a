/* SPDX-License-Identifier: Apache-2.0 */
/* store/schema - store/schema.sql inside the program, and its migrations.
 *
 * In the frontend, once, before it restricts itself. A database is a number (user_version) of
 * sections that were executed; the missing ones are, each in a transaction with its number, so that
 * a crash leaves the one before or the one after. A database of a later brood is refused: nobody
 * knows what its tables mean.
 */
#include "lib/err.h"
#include "store/store_impl.h"

#define APPLICATION_ID 0x62726f64 /* "brod" */
#define MARK "\n-- migration "

extern const char store_schema_sql[];

__asm__(".pushsection .rodata\n"
        ".global store_schema_sql\n"
        "store_schema_sql:\n"
        ".incbin \"store/schema.sql\"\n"
        ".byte 0\n"
        ".popsection\n");

static int read_number(sqlite3 *db, const char *pragma, int *ret)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, pragma, -1, &st, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        *ret = sqlite3_column_int(st, 0);
        rc = SQLITE_OK;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* The text of section `number`, malloc'ed, in *ret; NULL when there is none. */
static int find_section(int number, char **ret)
{
    char mark[40];
    (void)snprintf(mark, sizeof mark, MARK "%d\n", number);
    const char *at = strstr(store_schema_sql, mark), *end;
    *ret = NULL;
    if (!at)
        return 0;
    at += strlen(mark);
    end = strstr(at, MARK);
    *ret = strndup(at, end ? (size_t)(end - at) : strlen(at));
    return *ret ? 0 : -1;
}

static bool has_section(int number)
{
    char *section;
    bool has = find_section(number, &section) == 0 && section;
    free(section);
    return has;
}

static int migrate_to(sqlite3 *db, int number, const char *section, struct err *err)
{
    char after[96];
    (void)snprintf(after, sizeof after,
                   "PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT", number,
                   APPLICATION_ID);
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, section, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, after, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    (void)err_set(err, "migration %d: %s", number, sqlite3_errmsg(db));
    (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return err->code;
}

int store_migrate(sqlite3 *db, struct err *err)
{
    int version = 0, application = 0, tables = 0;
    char *section = NULL;
    if (read_number(db, "PRAGMA user_version", &version) != SQLITE_OK ||
        read_number(db, "PRAGMA application_id", &application) != SQLITE_OK ||
        read_number(db, "SELECT count(*) FROM sqlite_schema", &tables) != SQLITE_OK)
        return err_set(err, "%s", sqlite3_errmsg(db));
    if (version < 0 || (tables > 0) != (application == APPLICATION_ID && version > 0))
        return err_set(err, "it is no database of brood's");
    if (version > 0 && !has_section(version))
        return err_set(err, "it is of a later brood (version %d)", version);
    for (; find_section(version + 1, &section) == 0; version++) {
        if (!section)
            return 0;
        int r = migrate_to(db, version + 1, section, err);
        free(section);
        if (r < 0)
            return r;
    }
    return err_sys(err, "migrations");
}
