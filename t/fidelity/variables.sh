# SPDX-License-Identifier: Apache-2.0
# A table of t/300-fidelity.t, which says how it is read; not a script of its own.
### $0 and $@
echo "$0" "$#" "$@" "[$*]" "${1-unset}"
### $$ is this process
read -r pid _ < /proc/self/stat; [ "$pid" = $$ ] && echo same; [ $$ = $BASHPID ] && echo bashpid
### $BASHPID in a subshell
( [ $$ = $BASHPID ] || echo differs ); [ "$(echo $BASHPID)" != $$ ] && echo differs too
### $PPID
[[ $PPID =~ ^[0-9]+$ ]] && echo "$PPID"; declare -p PPID; PPID=1; echo $?
### $PPID as the kernel says
awk '/^PPid/ {print $2}' /proc/$$/status; echo $PPID
### ids
echo $UID $EUID "${GROUPS[@]}"; declare -p UID EUID GROUPS; id; whoami
### readonly ids
UID=0; echo not reached
### HOSTNAME and host
echo $HOSTNAME; hostname; uname -n; echo $HOSTTYPE $MACHTYPE $OSTYPE
### HOSTNAME in a prompt
x='\h \u \w \$ \H \s \v'; echo "${x@P}"
### SHLVL
echo $SHLVL; bash -c 'echo $SHLVL'; (echo $SHLVL); env | grep SHLVL
### SHLVL under exec
exec bash -c 'echo $SHLVL'
### $_ at the start
echo "$_"
### $_ afterwards
echo a b; echo "$_"; true; echo "$_"; env | grep ^_=
### BASH_EXECUTION_STRING
echo "$BASH_EXECUTION_STRING"; declare -p BASH_EXECUTION_STRING
### BASH_SUBSHELL
echo $BASH_SUBSHELL; (echo $BASH_SUBSHELL; (echo $BASH_SUBSHELL)); echo $(echo $BASH_SUBSHELL)
### BASH_COMMAND
echo $BASH_COMMAND; trap 'echo "[$BASH_COMMAND]"' EXIT; : x y
### LINENO
echo $LINENO
echo $LINENO; f() {
echo $LINENO; }
f
(echo $LINENO
echo $LINENO)
### LINENO in eval
eval 'echo $LINENO
echo $LINENO'
echo $LINENO
### $-
echo $-; set -u; echo $-; set -f; echo $-; (set +u; echo $-)
### SHELLOPTS and BASHOPTS
echo $SHELLOPTS; echo $BASHOPTS; declare -p SHELLOPTS BASHOPTS
### BASH and version
echo $BASH $BASH_VERSION; declare -p BASH BASH_VERSINFO BASH_ARGV0
### PATH, HOME, PWD
echo "$PATH" "$HOME" "$PWD" ~; declare -p PATH HOME PWD OLDPWD; echo ~user ~+ ~-
### environment
env | sort; echo; export -p
### IFS, OPTIND, PS4
declare -p IFS OPTIND OPTERR PS4 PS1 PS2 PS3; echo $?
### DIRSTACK and FUNCNAME
declare -p DIRSTACK FUNCNAME BASH_SOURCE BASH_LINENO BASH_ARGC BASH_ARGV; echo $?
### PIPESTATUS at the start
echo "${PIPESTATUS[@]}" $?; false | true | (exit 3); echo "${PIPESTATUS[@]}"
### $? at the start
echo $?
### $! at the start
echo "[$!]"; declare -p '!'; set -u; echo $!
### SECONDS
echo $SECONDS; SECONDS=5; echo $SECONDS; unset SECONDS; echo "[$SECONDS]"
### RANDOM is seeded by assignment
RANDOM=42; echo $RANDOM $RANDOM; RANDOM=42; echo $RANDOM; BASH_COMPAT=50; RANDOM=42; echo $RANDOM
### RANDOM unset
unset RANDOM; echo "[$RANDOM]"; RANDOM=x; echo $RANDOM
### EPOCH
[[ $EPOCHSECONDS =~ ^[0-9]{10}$ && $EPOCHREALTIME =~ ^[0-9]{10}\.[0-9]{6}$ ]]; echo $?; printf '%(%Y)T\n' -2 | grep -c .
### printf %(...)T of the shell start
a=$(printf '%(%s)T' -2); b=$EPOCHSECONDS; ((b - a <= 2)) && echo recent
### COLUMNS, LINES, TERM
echo "$COLUMNS" "$LINES" "$TERM"; /bin/true; echo "$COLUMNS"; shopt checkwinsize
### BASH_MONOSECONDS and others that 5.2 lacks
echo "[$BASH_MONOSECONDS$GLOBSORT$BASH_TRAPSIG]"
### BASH_ALIASES and BASH_CMDS
declare -p BASH_ALIASES BASH_CMDS; ls >/dev/null; declare -p BASH_CMDS; alias a=b; declare -p BASH_ALIASES
### COMP_ and others
declare -p COMP_WORDBREAKS BASH_COMPAT EPOCHSECONDS_ FUNCNEST TIMEFORMAT TMOUT REPLY; echo $?
### compgen -v
compgen -v | sort
### compgen -e
compgen -e | sort
### BASH_ENV and ENV are not there
echo "[${BASH_ENV-unset}] [${ENV-unset}] [${LD_PRELOAD-unset}]"
### BASH_ARGV0
BASH_ARGV0=other; echo $0; nosuchcommand
### parameters by set
set -- a 'b c' ''; echo $# "$2"; shift; echo $#; shift 5; echo $? $#; for x; do echo "<$x>"; done
### positional assign to $0
set -- -n; echo "$@"; set - x y; echo $@; set --; echo $#
### nameref
a=1; declare -n r=a; r=2; echo $a ${!r}; declare -p r; unset -n r; declare -p r a
### nameref loop
declare -n a=b b=a; echo $a; echo $?
### readonly
readonly x=1; x=2; echo not reached
### readonly in a function
f() { local -r y=1; y=2; echo not; }; f; echo $?
### integer, case
declare -i i=3+4; i+=2; declare -u U=abc; declare -l L=ABC; declare -c C=abc; echo $i $U $L $C
### export
export A=1; B=2; export B; bash -c 'echo $A$B$C'; export -n A; bash -c 'echo "[$A]"'; C=3 bash -c 'echo $C'
### exported function
f() { echo in f; }; export -f f; bash -c f; env | grep -c BASH_FUNC
### declare -x in function
f() { declare -gx G=1; local l=2; declare -p l; }; f; declare -p G l
### local
x=g; f() { local x; echo "[${x-unset}]"; x=l; g; }; g() { echo $x; unset x; echo "${x-u}"; }; f; echo $x
### local -
f() { local -; set -f; echo $-; }; f; echo $-
### temporary environment
x=1 eval 'echo $x'; echo "[$x]"; x=2 :; echo "[$x]"; set -o posix; x=3 :; echo "[$x]"
### unset
x=1; f() { :; }; unset x f; echo "${x-u}"; f; unset -v nothing; echo $?; unset 1x; echo $?
### declare -F and -f
f() { echo a; }; declare -F; declare -f f; type f
### unset in dynamic scope
declare -A m=([k]=v); unset 'm[k]'; declare -p m; unset m; declare -p m
