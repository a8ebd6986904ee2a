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
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/time.h>

/* Exported by bash but declared in none of the installed headers. */
extern int indirection_level, evalnest, sourcelevel, executing_builtin, executing_command_builtin;
extern int parse_and_execute_level, loop_level, builtin_ignoring_errexit, comsub_ignore_return;
extern int terminate_immediately, startup_state, want_pending_command, stdin_redir;
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
extern int signal_is_trapped(int), signal_is_ignored(int);
extern void restore_sigmask(void);

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

/* No command is in progress. */
static void forget_progress(void)
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
}

/* The state of a shell that has not begun its first command. */
static void forget_the_enable(void)
{
    forget_progress();
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
    if (*job->cwd)
        follow_cwd();
    command_execution_string = savestring(job->cmd);
    bind_variable("BASH_EXECUTION_STRING", command_execution_string, 0);
    (void)gettimeofday(&shellstart, NULL);
    shell_start_time = shellstart.tv_sec;
    last_command_exit_value = run_one_command(job->cmd);
    exit_shell(last_command_exit_value);
    _exit(127); /* not reached; bash's header does not say so */
}

/* ---- sessions ----------------------------------------------------------------------------------
 *
 * The bash stays, and is as one that reads a script whose commands are the calls: it is not -c's
 * last command that is to be exec'ed without a fork (startup_state), `c` is not in $-, and an error
 * that ends a script ends it with the script's status. Only SIGINT is as in an interactive one: it
 * drops the call. env, cwd and args of a request are the call's, as in `NAME=VALUE eval CMD`; all
 * else stays.
 */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    interrupted = 1;
    sigint_sighandler(sig);
}

static void await_interrupts(void)
{
    if (!signal_is_trapped(SIGINT) && !signal_is_ignored(SIGINT))
        (void)set_signal_handler(SIGINT, on_interrupt);
}

static void begin_session(void)
{
    char *none = NULL;
    struct child_job nothing = {.env = zyg_base_env, .args = &none};
    (void)prctl(PR_SET_NAME, "bash", 0, 0, 0);
    child_show_as(&nothing);
    startup_state = want_pending_command = 0;
    initialize_terminating_signals(); /* else the first trap for EXIT did, for SIGINT as well */
    (void)gettimeofday(&shellstart, NULL);
    shell_start_time = shellstart.tv_sec;
}

/* What a call borrows, and puts back. */
struct loan {
    VAR_CONTEXT *below;                     /* what its environment lies on; NULL: it has none */
    char *dir, *logical_dir, *pwd, *oldpwd; /* dir NULL: no cwd was given */
};

static void lend_env(const struct child_job *job, struct loan *loan)
{
    if (!job->request_env_count)
        return;
    HASH_TABLE *own = hash_create(64);
    for (size_t i = 0; i < job->request_env_count; i++) {
        char *name = job->request_env[i], *eq = strchr(name, '=');
        if (!eq)
            continue;
        *eq = 0;
        if (legal_identifier(name)) {
            SHELL_VAR *v = xmalloc(sizeof *v);
            *v = (SHELL_VAR){.name = savestring(name),
                             .value = savestring(eq + 1),
                             .attributes = att_exported | att_tempvar};
            hash_insert(savestring(name), own, HASH_NOSRCH)->data = v;
        } else {
            import_foreign(name, eq + 1);
        }
    }
    loan->below = shell_variables;
    push_scope(VC_BLTNENV, own);
    for (size_t i = 0; i < job->request_env_count; i++)
        stupidly_hack_special_variables(job->request_env[i]);
    array_needs_making = 1;
}

static void forget_foreign(const char *name)
{
    BUCKET_CONTENTS *b = invalid_env ? hash_remove(name, invalid_env, 0) : NULL;
    if (!b)
        return;
    dispose_variable(b->data);
    free(b->key);
    free(b);
}

static void return_env(const struct child_job *job, const struct loan *loan)
{
    if (!loan->below)
        return;
    while (shell_variables != loan->below)
        pop_scope(0);
    for (size_t i = 0; i < job->request_env_count; i++)
        if (!legal_identifier(job->request_env[i]))
            forget_foreign(job->request_env[i]);
    array_needs_making = 1;
}

static char *copy_of(const char *value)
{
    return value ? savestring(value) : NULL;
}

static int lend_cwd(const struct child_job *job, struct loan *loan)
{
    if (!*job->cwd)
        return 0;
    loan->dir = getcwd(NULL, 0);
    loan->pwd = copy_of(get_string_value("PWD"));
    loan->oldpwd = copy_of(get_string_value("OLDPWD"));
    loan->logical_dir = get_working_directory((char[]){"session"});
    int r = child_enter_cwd(job->cwd);
    if (r == 0)
        follow_cwd();
    return r;
}

static void return_variable(const char *name, char *value)
{
    SHELL_VAR *v = value ? bind_variable(name, value, 0) : NULL;
    if (v)
        VSETATTR(v, att_exported);
    else
        unbind_variable(name);
    FREE(value);
}

/* A directory that is gone cannot be gone back to: then it stays where it is. */
static void return_cwd(struct loan *loan)
{
    if (loan->dir && chdir(loan->dir) == 0) {
        set_working_directory(loan->logical_dir ? loan->logical_dir : loan->dir);
        return_variable("PWD", ptr_take(&loan->pwd));
        return_variable("OLDPWD", ptr_take(&loan->oldpwd));
        array_needs_making = 1;
    }
    free(loan->dir);
    FREE(loan->logical_dir);
    FREE(loan->pwd);
    FREE(loan->oldpwd);
}

/* After a jump out of whatever was going on, which a shell that goes on never has had. */
static void settle(void)
{
    dispose_used_env_vars();
    forget_progress();
    restore_sigmask();
}

/* As reader_loop() in bash's eval.c treats a command of a script, and parse_and_execute() one of
 * several. Ends this process where that one ends the shell. */
static int evaluate(const char *cmd, bool *ret_interrupted)
{
    int code = setjmp_nosigs(top_level);
    if (code == NOT_JUMPED)
        return parse_and_execute(savestring(cmd), "-c", SEVAL_NOHIST | SEVAL_RESETLINE);
    bool dropped = code == DISCARD || (interrupted && !interrupt_state);
    unlink_fifo_list();
    if (!dropped || getpid() != dollar_dollar_pid)
        exit_shell(last_command_exit_value);
    settle();
    *ret_interrupted = interrupted;
    return last_command_exit_value ? last_command_exit_value : EXECUTION_FAILURE;
}

static int call(const struct child_job *job, struct zyg_call_result *ret)
{
    struct loan loan = {0};
    terminate_immediately = interrupt_state = interrupted = stdin_redir = 0;
    await_interrupts(); /* a `trap - INT` has undone it */
    zreset();           /* what a `read` that was interrupted had read of another stdin */
    int r = lend_cwd(job, &loan);
    if (r == 0) {
        lend_env(job, &loan);
        if (job->arg_count) {
            push_dollar_vars();
            bind_args(job);
        }
        last_command_exit_value = ret->status = evaluate(job->cmd, &ret->interrupted);
        if (job->arg_count)
            pop_dollar_vars();
        return_env(job, &loan);
    }
    return_cwd(&loan);
    (void)fflush(stdout);
    __fpurge(stdout); /* what could not be written is not the next one's */
    clearerr(stdout);
    terminate_immediately = 1; /* a signal that ends a shell does so between calls, too */
    CHECK_TERMSIG;
    return r;
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
                                          .begin_session = begin_session,
                                          .call = call,
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
