/* SPDX-License-Identifier: GPL-3.0-or-later */
/* zygote/bash_eval - the only file that knows bash's insides: the loadable builtin, and what has to
 * be put back so that a command evaluated in a forked warm bash cannot be told from `bash -c CMD`.
 *
 * priv execs `bash -c ZYG_BASH_COMMAND` in the image; `enable -f` calls our load function, which
 * never returns: the bash is the primordial from then on. Taking over in the load function, before
 * `enable` adds anything to its table, leaves no trace of a builtin in `enable -a` or `compgen -b`.
 *
 * The child does what bash's own run_one_command() (shell.c) does with a -c string:
 * setjmp(top_level), parse_and_execute(), exit_shell(). The globals below are those that the
 * command in progress (the `enable`) had changed, and those that describe the process: ids, pid,
 * clock, random seeds. t/300 and t/310 compare the result with a real exec. Written against
 * bash 5.2; struct layouts come from Debian's bash-builtins, which has the version of /bin/bash.
 */
#undef _GNU_SOURCE /* config.h defines it */
#include "config.h"

#include "builtins.h"
#include "shell.h"

#include "bashjmp.h"
#include "builtins/common.h"
#include "execute_cmd.h"
#include "jobs.h"

#include "lib/packet.h"
#include "zygote/zyg.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/time.h>

/* Exported by bash but declared in none of the installed headers. */
extern int indirection_level, evalnest, sourcelevel, executing_builtin, executing_command_builtin;
extern int parse_and_execute_level, loop_level, builtin_ignoring_errexit, comsub_ignore_return;
extern int return_catch_flag, from_return_trap, line_number_for_err_trap, variable_context,
    line_number;
extern pid_t dollar_dollar_pid, shell_pgrp, original_pgrp, pipeline_pgrp, last_command_subst_pid;
extern time_t shell_start_time;
extern struct timeval shellstart;
extern char *the_printed_command_except_trap, *command_execution_string, *current_host_name;
extern sh_builtin_func_t *this_shell_builtin, *last_shell_builtin;
extern char *this_command_name;
extern REDIRECT *redirection_undo_list, *exec_redirection_undo_list;
extern HASH_TABLE *temporary_env, *invalid_env;
extern void sbrand(unsigned long);
extern void seedrand(void);
extern void seedrand32(void);
extern void set_ppid(void);
extern void clear_unwind_protect_list(int);
extern void unlink_fifo_list(void);

int brood_builtin(WORD_LIST *list);
int brood_builtin_load(char *name);

/* The shape `enable -f` looks for (examples/loadables in bash's source). It is never added. */
static char *brood_doc[] = {(char[]){"Takes this shell over as a brood primordial."}, NULL};
extern struct builtin brood_struct;
struct builtin brood_struct = {(char[]){"brood"}, brood_builtin, BUILTIN_ENABLED,
                               brood_doc,         "brood",       0};

int brood_builtin(WORD_LIST *list)
{
    (void)list;
    return EXECUTION_FAILURE;
}

static void set_value(const char *name, const char *value)
{
    SHELL_VAR *v = find_variable(name);
    if (!v)
        return;
    FREE(value_cell(v));
    var_setvalue(v, savestring(value));
}

/* What the shell knows of its user from /etc/passwd: \u in prompts, SHELL, ~ without HOME. */
static void know_user(void)
{
    current_user.uid = current_user.euid = ZYG_CHILD_UID;
    current_user.gid = current_user.egid = ZYG_CHILD_UID;
    FREE(current_user.user_name);
    FREE(current_user.shell);
    FREE(current_user.home_dir);
    current_user.user_name = current_user.shell = current_user.home_dir = NULL;
    get_current_user_info();
    set_value("SHELL", current_user.shell);
}

static void on_assign(const char *host)
{
    set_value("HOSTNAME", host);
    FREE(current_host_name);
    current_host_name = savestring(host);
}

/* The state of a shell that has not begun its first command. */
static void forget_the_enable(void)
{
    clear_unwind_protect_list(0);
    indirection_level = evalnest = sourcelevel = parse_and_execute_level = 0;
    executing_builtin = executing_command_builtin = builtin_ignoring_errexit = 0;
    loop_level = comsub_ignore_return = return_catch_flag = from_return_trap = 0;
    line_number = line_number_for_err_trap = variable_context = 0;
    this_shell_builtin = last_shell_builtin = NULL;
    this_command_name = NULL;
    redirection_undo_list = exec_redirection_undo_list = NULL;
    temporary_env = NULL;
    the_printed_command_except_trap = NULL;
    last_command_exit_value = 0;
    last_asynchronous_pid = NO_PID;
    last_command_subst_pid = NO_PID;
}

static void become_this_process(void)
{
    char id[16];
    unsigned long seed = 0;
    (void)snprintf(id, sizeof id, "%u", ZYG_CHILD_UID);
    set_value("UID", id);
    set_value("EUID", id);
    dollar_dollar_pid = getpid();
    shell_pgrp = original_pgrp = getpgrp();
    pipeline_pgrp = 0;
    set_ppid();
    seedrand32();
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed)
        sbrand(seed);
    else
        seedrand();
}

static void on_standby(void)
{
    forget_the_enable();
    become_this_process();
}

/* A name that is no identifier is passed on but is no variable: bash keeps such in a table of their
 * own (bind_invalid_envvar() in its variables.c). */
static void import_foreign(const char *name, const char *value)
{
    if (!invalid_env)
        invalid_env = hash_create(64);
    SHELL_VAR *v = xmalloc(sizeof *v);
    *v = (SHELL_VAR){.name = savestring(name),
                     .value = savestring(value),
                     .attributes = att_exported | att_imported | att_invisible};
    hash_insert(savestring(name), invalid_env, HASH_NOSRCH)->data = v;
}

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names && !STREQ(name, *names))
        names++;
    return *names != NULL;
}

/* As main() and initialize_shell_variables() treat a variable that a shell starts with. */
static void import_variable(const char *name, const char *value)
{
    static const char *const of_interactive_shells[] = {"PS1", "PS2", NULL};
    static const char *const without_effect[] = {"IGNOREEOF", "ignoreeof", NULL};
    if (is_one_of(name, of_interactive_shells))
        return;
    SHELL_VAR *v = bind_variable(name, (char *)(uintptr_t)value, 0);
    if (v)
        VSETATTR(v, att_exported | att_imported);
    if (!is_one_of(name, without_effect))
        stupidly_hack_special_variables((char *)(uintptr_t)name);
    if (STREQ(name, "POSIX_PEDANTIC")) {
        bind_variable("POSIXLY_CORRECT", (char[]){"y"}, 0);
        stupidly_hack_special_variables((char[]){"POSIXLY_CORRECT"});
        set_bashopts();
    }
}

static void import_env(const struct child_job *job)
{
    for (size_t i = 0; i < job->request_env_count; i++) {
        char *name = job->request_env[i], *eq = strchr(name, '=');
        if (!eq)
            continue;
        *eq = 0;
        if (legal_identifier(name))
            import_variable(name, eq + 1);
        else
            import_foreign(name, eq + 1);
        *eq = '=';
    }
    if (job->request_env_count)
        array_needs_making = 1;
}

static void follow_cwd(void)
{
    char *cwd = getcwd(NULL, 0);
    if (!cwd)
        return;
    set_working_directory(cwd);
    SHELL_VAR *v = bind_variable("PWD", cwd, 0);
    if (v)
        VSETATTR(v, att_exported);
    array_needs_making = 1;
    free(cwd);
}

/* As bind_args() in bash's shell.c does for -c, but that $0 stays. */
static void bind_args(const struct child_job *job)
{
    WORD_LIST *list = strvec_to_word_list((char **)(uintptr_t)job->args, 1, 0);
    remember_args(list, 1);
    dispose_words(list);
}

/* As run_one_command() in bash's shell.c. */
static int run_one_command(const char *cmd)
{
    int code = setjmp_nosigs(top_level);
    if (code != NOT_JUMPED) {
        unlink_fifo_list();
        switch (code) {
        case FORCE_EOF:
            return 127;
        case DISCARD:
            return last_command_exit_value = 1;
        default: /* ERREXIT, EXITPROG, EXITBLTIN */
            return last_command_exit_value;
        }
    }
    return parse_and_execute(savestring(cmd), "-c", SEVAL_NOHIST | SEVAL_RESETLINE);
}

static __attribute__((noreturn)) void run(const struct child_job *job)
{
    (void)prctl(PR_SET_NAME, "bash", 0, 0, 0);
    child_show_as(job);
    import_env(job);
    if (job->arg_count)
        bind_args(job);
    if (job->cwd_given)
        follow_cwd();
    command_execution_string = savestring(job->cmd);
    bind_variable("BASH_EXECUTION_STRING", command_execution_string, 0);
    (void)gettimeofday(&shellstart, NULL);
    shell_start_time = shellstart.tv_sec;
    last_command_exit_value = run_one_command(job->cmd);
    exit_shell(last_command_exit_value);
    _exit(127); /* not reached; bash's header does not say so */
}

/* For lean.c: the smallest run, whose data pages every run writes; then what many use of a shell.
 * It runs in a child that ends afterwards. */
static void rehearse(void (*done)(void))
{
    static const char script[] =
        "x=1; y=\"a $x\"; echo hi; printf '%s\\n' \"$y\" >/dev/null; [ -n \"$x\" ] && :\n"
        "if [[ $y == a* ]]; then z=${y#a }; fi; for i in 1 2; do :; done; f() { local v=$1; return "
        "0; }; f 1\n"
        "case $x in 1) ;; esac; while ((x < 3)); do ((x++)); done; cd . && test -d / || echo no; "
        "z=$(:); (exit 0)";
    char *none = NULL;
    struct child_job job = {.cmd = "echo hi", .env = zyg_base_env, .request_env = &none};
    on_standby();
    child_show_as(&job);
    import_env(&job);
    command_execution_string = savestring(job.cmd);
    bind_variable("BASH_EXECUTION_STRING", command_execution_string, 0);
    (void)run_one_command(job.cmd);
    done();
    (void)run_one_command(script);
    exit_shell(0);
}

/* Runs first of all exit handlers, being registered last, and leaves out those of the shared
 * objects: they have nothing to say in a process that was forked to run one command, and cost a
 * tenth of its pages. */
static void leave(int status, void *arg)
{
    (void)arg;
    (void)fflush(NULL);
    _exit(status);
}

static const struct zyg_eval bash_eval = {.execs = false,
                                          .on_assign = on_assign,
                                          .on_standby = on_standby,
                                          .run = run,
                                          .rehearse = rehearse,
                                          .watch = zyg_divert_calls};

int brood_builtin_load(char *name)
{
    (void)name;
    (void)close(ZYG_BUILTIN_FD);
    (void)on_exit(leave, NULL);
    know_user();
    primordial_serve(ZYG_PRIV_FD, ZYG_PLAN_FD, &bash_eval);
}
