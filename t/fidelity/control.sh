# SPDX-License-Identifier: Apache-2.0
# A table of t/300-fidelity.t, which says how it is read; not a script of its own.
### if, case, while, until
if false; then echo 1; elif true; then echo 2; fi; case x in a|x) echo c;;& x) echo d;& y) echo e;; *) echo f; esac; i=0; while ((i<2)); do ((i++)); done; until ((i>4)); do ((++i)); done; echo $i
### break and continue
for i in 1 2 3; do for j in a b; do [ $j = b ] && continue 2; [ $i = 3 ] && break 2; echo $i$j; done; done; break; echo $?
### continue outside
continue; echo $?; f() { break; }; for i in 1 2; do f; echo $i; done
### functions
f() { echo $# $1 $FUNCNAME; return 4; }; f a b; echo $?; g() { g2; }; g2() { echo ${FUNCNAME[@]} ${BASH_LINENO[@]} ${BASH_SOURCE[@]}; caller; caller 0; caller 1; }; g
### return outside
return; echo $?; return 5; echo $?
### recursion
f() { (($1 > 0)) && f $(($1-1)) || echo bottom ${#FUNCNAME[@]}; }; f 500
### FUNCNEST
FUNCNEST=5; f() { f; }; f; echo $?
### exit in a function
f() { exit 3; }; f; echo not reached
### exit in a subshell
(exit 4); echo $?; $(exit 5); echo $?; { exit 6; }; echo not reached
### exit in a pipeline
echo a | exit 3; echo $?; exit 7 | cat; echo $? ${PIPESTATUS[@]}
### exit with a bad argument
exit abc; echo not reached
### exit with too many arguments
exit 1 2; echo $?
### exit out of range
exit 300
### exit negative
exit -1
### exit without an argument
false; exit
### exit in eval in a function in a subshell
f() { eval 'exit 9'; }; (f); echo $?; f
### subshell and group
x=1; (x=2; echo $x); echo $x; { x=3; }; echo $x; (cd /; pwd); pwd
### pipelines
seq 5 | while read x; do s=$((s+x)); done; echo "[$s]"; shopt -s lastpipe; seq 5 | while read x; do s=$((s+x)); done; echo "[$s]"
### pipefail
false | true; echo $?; set -o pipefail; false | true; echo $?; ! false | true; echo $?
### |&
{ echo out; echo err >&2; } |& sort
### set -e
set -e; false || true; if false; then :; fi; ! true; echo on; false; echo not reached
### set -e in functions
set -e; f() { false; echo in f; }; f || echo or; f; echo not reached
### set -e and substitution
set -e; x=$(false; echo a); echo "$x"; shopt -s inherit_errexit; x=$(false; echo b); echo not reached
### set -e in a subshell
set -e; (false; echo no) || echo or; (false; echo no); echo not reached
### set -e with a pipeline
set -eo pipefail; false | cat; echo not reached
### set -e with an EXIT trap
set -e; trap 'echo trap $?' EXIT; (exit 5); echo not reached
### set -u
set -u; echo "${x-}"; echo $x; echo not reached
### set -u with arrays
set -u; a=(); echo "${a[@]}"; echo ${a[0]}
### set -u in a subshell
set -u; (echo $nope); echo $?; echo "$1"
### set -n
echo a; set -n; echo b
### set -x
set -x; x=1; echo $x; (echo a); y=$(echo b; echo $(echo c)); f() { echo f; }; f; [[ a == b ]]; ((1+1)); for i in 1; do :; done; case x in y) ;; esac
### set -x with PS4
PS4='+$LINENO:$BASH_SUBSHELL '; set -x; eval 'echo a'; eval 'eval "echo b"'; . /dev/stdin <<<'echo c'
### set -x in eval and source
set -x; eval 'echo a; eval "echo b"'; echo 'echo c' >f; . ./f
### BASH_XTRACEFD
exec 5>trace; BASH_XTRACEFD=5; set -x; echo a; (echo b); set +x; cat trace
### set -v
set -v
echo a
echo b
### set -o
set -o; set +o; shopt; shopt -p
### set -k, -t
set -k; echo a x=1; set -t; echo b; echo c
### set -C
echo a >f; set -C; echo b >f; echo $?; echo c >|f; cat f
### set -a
set -a; x=1; bash -c 'echo $x'
### set -P
mkdir d; ln -s d l; cd l; pwd; cd ..; set -P; cd l; pwd
### set -b, invalid
set -b; set -q; echo $?; set -o nosuch; echo $?; shopt -s nosuch; echo $?
### set -h
set +h; ls >/dev/null; hash; set -h; ls >/dev/null; hash | tail -1
### posix
set -o posix; echo $SHELLOPTS; export x=1; echo ~; nosuch() { :; }; . nosuchfile; echo not reached
### posix special builtin error
set -o posix; readonly r=1; r=2 :; echo $?; unset r; echo $?
### time
time true; time -p true; TIMEFORMAT='%R' ; time :; { time sleep 0; } 2>&1 | grep -c .
### times
times | wc -l; times | grep -c 'm.*s'
### coproc
coproc cat; echo hi >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x ${#COPROC[@]}; [ -n "$COPROC_PID" ] && echo pid; exec {COPROC[1]}>&-; wait $COPROC_PID; echo $?
### coproc descriptors
coproc C { read x; echo "got $x"; }; echo "${C[@]}"; echo a >&"${C[1]}"; cat <&"${C[0]}"; wait; echo "${C[@]-none}"
### select
PS3='? '; select x in a b c; do echo "<$x> $REPLY"; break; done <<<2
### select at end of file
select x in a b; do echo $x; done </dev/null; echo $?
### comments
echo a # b
# c
echo d#e
### continuation
echo a \
b; ec\
ho c; echo "x\
y" 'p\
q'
### alias
alias hi='echo hello'; hi; shopt -s expand_aliases
alias ho='echo there '; ho
alias; unalias ho
ho; type hi
### alias in a function
shopt -s expand_aliases; alias x='echo X'
f() { x; }
unalias x; f; declare -f f
### eval
eval 'x=1; echo $x' ; eval; echo $?; eval 'echo (' ; echo $?
### syntax error
if then
### syntax error later
echo a
echo b )
echo c
### unterminated quote
echo 'abc
### unterminated double quote
echo a; echo "abc
### unterminated substitution
echo $(echo a
### unterminated brace
{ echo a
### syntax error in a function
f() { echo a; ; }; f
### unexpected token
echo a & & echo b
### for without do
for i in a b; echo $i; done
### bad substitution
echo ${x!y}; echo not reached
### bad function name
f-1() { echo ok; }; f-1; 1=2; echo $?; x y z
### reserved words
then
### command not found
nosuchcommand a b; echo $?; ./nosuch; echo $?; /no/such; echo $?; ''; echo $?
### command_not_found_handle
command_not_found_handle() { echo "handle $*"; return 9; }; nosuch a; echo $?
### not executable
echo text >f; ./f; echo $?; mkdir d; ./d; echo $?; /etc/passwd; echo $?; chmod +x f; ./f; echo $?
### bad interpreter
printf '#!/no/such\n' >f; chmod +x f; ./f; echo $?; printf '\0\1\2' >g; chmod +x g; ./g; echo $?
### script without #!
echo 'echo "$0 $1 $BASH_SUBSHELL"' >f; chmod +x f; ./f a; x=1 ./f b
### arguments too long
x=$(printf '%200000s' x); /bin/echo "$x"; echo $?
