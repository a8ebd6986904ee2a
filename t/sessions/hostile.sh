### plain: stdout, stderr and status are apart
echo out; echo err >&2; (exit 7)
#---
echo $?
### plain: cwd, variables, functions and options stay
mkdir -p a/b; cd a/b; x='1 2'; f() { echo "f:$*:$x"; }; set -f; shopt -s nullglob; alias q=pwd; umask 027
#---
pwd; f 3 4; echo *; shopt nullglob; echo $-; alias; umask
### plain: exported variables stay
export A=b; declare -i n=3; declare -r ro=1; declare -A m=([k]=v)
#---
n+=2; bash -c 'echo $A'; declare -p n ro m
### plain: nothing at all

#---
echo $?
### plain: a comment
# nothing
#---
echo "$?"
### plain: many lines and blank ones


echo a

  echo b


### heredoc: complete
cat <<END
a $HOME
END
cat <<'END'
$HOME
END
### heredoc: without its end
cat <<END
text
#---
echo next
### heredoc: in a function
f() { cat <<E; }
in $1
E
f a
#---
f b; declare -f f
### heredoc: its word looks like a marker
cat <<'EOF'
__END__ $? EOF
EOF
echo "[$?]"
### quotes: unbalanced double
echo "open
#---
echo closed"
#---
echo fine
### quotes: unbalanced single
echo 'open
#---
echo fine
### quotes: unbalanced brace and parenthesis
{ echo a
#---
( echo b
#---
echo $( echo c
#---
echo fine
### syntax: errors end only the call
if then
#---
for
#---
echo a; ;; echo b
#---
echo fine
### syntax: an error in the second line
echo first
if then fi
echo third
#---
echo fine $?
### syntax: ends with a backslash
echo a \
#---
echo b
### syntax: ends with an operator
echo a &&
#---
echo b
### exec: redirection of stdout
exec >file; echo hidden
#---
echo shown; cat file
### exec: redirection of stdout to null
exec >/dev/null
#---
echo shown
### exec: redirection of both to one file
exec >log 2>&1; echo a; echo b >&2
#---
echo c; echo d >&2; cat log
### exec: stdout closed
exec >&-; echo lost
#---
echo shown; echo $?
### exec: stderr closed
exec 2>&-; nosuchcommand
#---
nosuchcommand; echo $?
### exec: stdin closed
exec <&-; read x; echo "$? [$x]" >/dev/null
#---
cat; echo "cat $?"; read x; echo "read $?"
### exec: all three closed
exec <&- >&- 2>&-
#---
echo a; echo b >&2; cat
### exec: stdin from a file
printf 'l1\nl2\nl3\n' >in; exec <in; read a; echo "$a"
#---
read b; echo "[$b] $?"
### exec: swapped
exec 3>&1 1>&2 2>&3 3>&-; echo to-err; echo to-out >&2
#---
echo out; echo err >&2
### exec: descriptors from 3 up stay
exec 3>third 4<<<'from a string'; echo x >&3
#---
echo y >&3; read -u 4 z; echo "$z"; exec 3>&-; cat third
### exec: an allocated descriptor stays
exec {fd}>f; echo $((fd >= 10)); echo a >&$fd
#---
echo b >&$fd; cat f; exec {fd}>&-
### exec: of nothing
exec
#---
echo still here
### exec: a program ends it
exec true
#---
echo new
### exec: a program with a status
x=1; exec bash -c 'echo from it; exit 9'
#---
echo "[$x]"
### exec: what is not there
exec /no/such/program
#---
echo new
### exec: what is not there, with execfail
shopt -s execfail; exec /no/such/program
#---
echo still; shopt execfail
### exit: with a status
x=1; exit 42
#---
echo "[$x]"
### exit: without one
false; exit
#---
echo new
### exit: in a subshell
(exit 3); echo $?
#---
$(exit 4); echo $?; exit 5 | cat; echo $?; { exit 6; } & wait $!; echo $?
### exit: in a function, a loop and a subshell of them
f() { for i in 1 2; do [ $i = 2 ] && exit 8; done; }; (f); echo $?; f; echo never
#---
echo new
### exit: more than 255
exit 300
### exit: no number
exit abc
#---
echo new
### errexit: false ends it
set -e; false; echo never
#---
echo "new $-"
### errexit: in a later call
set -e
#---
echo a; grep -q x /dev/null; echo never
#---
echo new
### errexit: what does not end it
set -e; false || true; if false; then :; fi; ! true; echo on
#---
echo $-
### errexit: off again
set -e; set +e; false
#---
echo still $?
### nounset: an unset variable ends it
set -u; echo "$nope"; echo never
#---
echo "new [$nope]"
### fatal: a parameter that must be set
echo before; echo ${nope:?must be set}; echo never
#---
echo new
### fatal: a readonly variable ends the line only
readonly r=1; r=2; echo never
#---
echo "still $? $r"
### fatal: bad substitution
echo ${a.b}; echo after
#---
echo next $?
### fatal: division by zero
echo $((1/0)); echo after
#---
echo next $?
### trap: ERR and DEBUG
trap 'echo "err $?"' ERR; false; true
#---
false; trap - ERR; false; echo $?
### trap: RETURN
trap 'echo ret' RETURN; f() { :; }; declare -ft f; f
#---
f; trap - RETURN; f; echo done
### trap: of a signal, in a later call
trap 'echo usr1' USR1
#---
kill -USR1 $$; echo after
#---
trap -p
### trap: TERM is ignored
trap '' TERM; kill $$; echo alive
#---
kill $$; echo alive; trap -p TERM
### trap: CHLD
trap 'echo chld' CHLD; /bin/true; echo done
#---
trap - CHLD; /bin/true; echo none
### trap: EXIT is of the session, not of a call
trap 'echo bye' EXIT
#---
echo not yet; (exit 3)
#---
trap - EXIT; echo never
### prompt: PS1, PS2, PROMPT_COMMAND
PS1='$(echo prompt)> '; PS2='more> '; PROMPT_COMMAND='echo prompted'; PS0='zero'
#---
echo shown; echo "$PS1"
### prompt: PS4 and xtrace
PS4='+$(echo x) '; set -x; echo a; { set +x; } 2>/dev/null
#---
echo b
### options: verbose
set -v; set +v
#---
echo a
### options: posix
set -o posix; shopt -o posix
#---
set +o posix; shopt -o posix
### options: noglob, noclobber, allexport
set -Ca; echo a >f; echo b >f; z=1
#---
echo c >f; bash -c 'echo "$z"'; cat f
### names: functions named like builtins
echo() { builtin printf 'E:%s\n' "$*"; }; exit() { builtin echo no; }; set() { :; }; read() { :; }; return() { :; }
#---
echo a; exit 3; unset -f echo exit set read return
#---
echo plain
### names: command and exec are functions
command() { :; }; exec() { echo "exec $*"; }
#---
exec true; command echo never; unset -f command exec; echo on
### names: readonly of what a shell uses
readonly PATH HOME; IFS=: 2>/dev/null
#---
echo still; PATH=/none; ls /
### names: IFS and OPTIND
IFS=x; a="1x2x3"; set -- $a; echo $#
#---
echo "$1 $2 $3"; IFS=$' \t\n'; set --; echo $#
### names: unset everything
for v in PATH HOME IFS PS4 OPTIND BASH_VERSION SHELLOPTS RANDOM SECONDS PWD OLDPWD _ LINENO; do unset "$v" 2>/dev/null; done
#---
echo still; /bin/echo on
### output: without a newline
printf a
#---
printf b; printf c >&2
### output: markers of all kinds
printf '__EXIT__0\n\001\002\003%s\n' "$(printf '\033]0;x\007')"; printf '\nEOF\n---\n$?\n'
#---
printf '{"exit_code":1}\n'; printf 'EXIT:0\r\n\f\v\b'
### output: much of it
for ((i = 0; i < 20000; i++)); do echo "line $i"; done
#---
head -c 300000 /dev/zero | tr '\0' x; echo err >&2
### output: interleaved
for i in 1 2 3; do echo o$i; echo e$i >&2; done
### stdin: cat waits for none
cat; echo $?
#---
read line; echo "$? $line"; mapfile a; echo ${#a[@]}; select x in a b; do echo $x; done; echo $?
### stdin: of a program and of a loop
while read -r l; do echo "$l"; done; head -1; wc -c
### variables: a megabyte
x=$(head -c 1000000 /dev/zero | tr '\0' v); echo ${#x}
#---
y=$x$x; echo ${#x} ${#y}; unset x y
### variables: names and values of all kinds
declare -a arr=([5]=x [9]=$'a\nb'); declare -x e=$'\001\377'; s=$'q\'"\\$`'
#---
declare -p arr e s | od -An -c
### variables: positional parameters
set -- a 'b c' d; shift
#---
echo "$# $1 $2"
### functions: recursion, local, return
f() { local x=$1; ((x > 0)) && f $((x - 1)); return $x; }; f 5; echo $?
#---
f 3; echo $? "${x-unset}"; return 4; echo on $?
### functions: an exported one
g() { echo g$1; }; export -f g
#---
bash -c 'g 1'; env | grep -c BASH_FUNC
### loops: break and continue outside of one
break; echo $?; continue; echo $?
#---
for i in 1 2 3; do continue 5; done; echo $i
### jobs: in the background, waited for later
(sleep 0.1; echo job >out; exit 4) & p=$!
#---
wait $p; echo $?; cat out
### jobs: wait for none
wait; echo $?; jobs; fg; echo $?
### jobs: a coprocess
coproc { read x; echo "got $x"; }; echo hi >&"${COPROC[1]}"; read y <&"${COPROC[0]}"; echo "$y"; wait
#---
echo "${COPROC[0]-gone}"
### process substitution
cat <(echo a) <(echo b); echo c > >(cat >f); wait $!; cat f
#---
diff <(echo 1) <(echo 1) && echo same
### pipelines: status and lastpipe
false | true; echo $? ${PIPESTATUS[@]}; set -o pipefail; false | true; echo $?
#---
shopt -s lastpipe; echo v | read w; echo "$w"
### time: the keyword
TIMEFORMAT=t; time true; time echo x
#---
time
### arithmetic and tests
((x = 5, y = x ** 2)); [[ $y == 2? ]] && echo $y; ((0)); echo $?
#---
echo $((x++)) $x; [[ abc =~ b(.) ]]; echo ${BASH_REMATCH[1]}
#---
echo ${BASH_REMATCH[1]} $x
### source: a file that returns, a file that fails
echo 'v=1; return 3; v=2' >f; . ./f; echo $? $v; . ./none; echo $?
#---
echo 'exit 6' >g; . ./g; echo never
#---
echo new
### eval: of itself
eval 'eval "echo deep; false"'; echo $?
#---
eval 'if then'; echo $?; eval 'echo "'; echo $?
### bash of bash
bash -c 'echo inner; exit 3'; echo $?; bash -s <<<'echo s; exit 4'; echo $?
#---
bash; echo $?
### kill: a subshell kills itself
(kill -9 $BASHPID); echo $?
#---
bash -c 'kill -TERM $$'; echo $?
### kill: the shell itself
x=1; kill -9 $$
#---
echo "[$x]"
### kill: the shell itself, politely
kill -TERM $$; echo never
#---
echo new
