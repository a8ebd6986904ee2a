# SPDX-License-Identifier: Apache-2.0
# A table of t/300-fidelity.t, which says how it is read; not a script of its own.
### no trace of brood
type brood; echo $?; help brood; echo $?; enable -p | grep brood; compgen -b | grep brood; enable brood; echo $?; brood; builtin brood; echo $?
### enable -a
enable -a; enable; enable -n; enable -s
### enable -n
enable -n echo; type -t echo; echo a; enable echo; type -t echo; enable -d brood; echo $?
### compgen
compgen -b | md5sum; compgen -k; compgen -A function; compgen -W 'aa ab b' a; compgen -c | grep -c '^bash$'; compgen -f; compgen -A shopt | md5sum
### help
help | md5sum; help cd | head -1; help -d true; help nosuch; echo $?; help -s 'e*'
### complete
complete; complete -W 'a b' foo; complete -p; complete -r foo; complete -p foo; echo $?; compopt foo; echo $?
### bind
bind -l | sort | head -2; bind '"x": "y"'; echo $?
### history
history; echo $?; set -o history; echo a; history; history -c; fc -l; echo $?; echo $HISTFILE $HISTSIZE; ls -A
### echo
echo -n a; echo -e 'b\tc\x41\0101\c' ; echo -E 'd\n'; echo -ne '\n' ; echo -- -x; shopt -s xpg_echo; echo 'a\tb'
### printf
printf '%s-%d|%5s|%-5s|%05d|%x|%o|%c|%%\n' a 1 b c 42 255 8 xyz; printf '%s\n' a b c; printf '%q %b\n' 'a b' 'x\ty'; printf '%*d\n' 5 3; printf '%d\n' abc; echo $?
### printf -v
printf -v x '%03d' 7; echo $x; printf -v 'a[2]' hi; declare -p a; printf -v 1x a; echo $?; printf; echo $?
### read < a b c\nd\\e\nlast
read x y; echo "$x|$y"; read -r z; echo "$z"; read w; echo "$w" $?; read v; echo "[$v]" $?
### read options < hello:world\nabc
read -d : a; read -n 2 b; read -N 4 c; echo "$a|$b|$c"; read -a arr <<<'1 2 3'; declare -p arr; IFS=, read p q <<<'x,y,z'; echo "$q"
### read -t
read -t 0; echo $?; read -t 0.01 x </dev/zero; echo $?; mkfifo p; exec 3<>p; read -t 0.02 -u 3 x; echo $?; read -p prompt x </dev/null; echo $?
### read -e, -s, -i
read -e x <<<abc; echo "$x"; read -s y <<<def; echo $y; read 1x; echo $?; read -Z; echo $?
### read in a loop < 1 a\n2 b\n3 c\n
while read n x; do echo "$x$n"; done; read; echo $?
### stdin shared by programs < one\ntwo\nthree\nfour\n
read a; head -c 4; cat | tr a-z A-Z; echo "[$a]"; cat; wc -c
### stdin by position < line1\nline2\nline3\n
read -r a; (read -r b; echo "$b"); read -r c; echo "$c"; cat /dev/stdin; cat /proc/self/fd/0
### bash reads its script < echo from stdin\nread x\nthe line\necho "[$x]"\n
bash; bash -s a b </dev/null; echo $?
### no stdin
cat; read x; echo $?; [ -t 0 ]; echo $?; readlink /proc/self/fd/0
### mapfile < a\nb\nc\nd
mapfile -t -n 3 m; declare -p m; mapfile -O 1 -t n; declare -p n; readarray -d '' z < <(printf 'x\0y\0'); declare -p z; mapfile -t -c 1 -C 'echo cb' q <<<$'1\n2'
### getopts
f() { local OPTIND o; while getopts ':ab:c' o "$@"; do echo "$o [$OPTARG] $OPTIND"; done; shift $((OPTIND-1)); echo "$@"; }; f -a -b x -cz -b; f -- -a y; f -q w
### getopts errors
getopts ab: o -x; echo $? $o; OPTIND=1; getopts ab: o -b; echo $? $o; getopts; echo $?
### cd
mkdir -p a/b; cd a/b; pwd; cd -; cd; pwd; cd nosuch; echo $?; CDPATH=a; cd b; pwd; cd ''; echo $?; cd a b; echo $?; cd ..; echo $OLDPWD
### cd -P and links
mkdir -p r/s; ln -s r/s l; cd l; pwd; pwd -P; cd ..; pwd; cd -P l; pwd; cd -L ../..; echo $PWD
### cd without HOME
unset HOME; cd; echo $?; HOME=/tmp; cd; pwd; cd ~; pwd
### removed directory
mkdir d; cd d; rmdir ../d; pwd; cd .; echo $?; ls; cd ..; pwd; bash -c pwd
### pushd, popd, dirs
mkdir a b; pushd a; pushd ../b; dirs -v; popd; dirs; popd; popd; echo $?; pushd; echo $?; pushd -n /tmp; dirs -p; dirs -c; dirs
### type and command
type ls cd if; type -a echo; type -t ls cd if f; command -v ls cd if nosuch; echo $?; command -V cd; command echo a; command nosuch; echo $?; type -P ls
### hash
hash; ls >/dev/null; cat </dev/null; hash; hash -t ls; hash -d ls; hash -r; hash; hash nosuch; echo $?; hash -p /bin/echo foo; foo bar
### PATH change
mkdir bin; printf '#!/bin/sh\necho mine\n' >bin/ls; chmod +x bin/ls; ls >/dev/null; PATH=$HOME/bin:$PATH; ls; PATH=; ls; echo $?
### source
echo 'echo "$0 $1 $#"; x=5; return 3; echo no' >s; . ./s a b; echo $? $x; source ./s; . s; echo $?; . ./nosuch; echo $?; .; echo $?; set -- p q; . ./s
### source from PATH
mkdir p; echo 'echo sourced ${BASH_SOURCE[0]} $LINENO' >p/lib; PATH=p:$PATH; . lib; shopt -u sourcepath; . lib; echo $?
### builtin
builtin echo a; builtin ls; echo $?; echo() { builtin echo "<$*>"; }; echo b; unset -f echo; echo c
### declare -p
x=1; declare -i i=2; declare -r r=3; declare -a a=(1); declare -A m=([k]=v); declare -x e=5; declare -p x i r a m e nosuch; declare -z; echo $?
### declare of everything
declare -F; declare -f; declare -i; declare -r; declare -x; declare -a; declare -A; declare -n
### set prints
set | grep -v '^RANDOM\|^SRANDOM\|^EPOCH\|^BASHPID\|^SECONDS\|^BASH_EXEC'
### typeset, readonly, export lists
readonly; readonly -a; readonly -f; typeset -p | wc -l; export; readonly zz; zz=1; echo no
### shopt
shopt -s extglob nullglob; shopt -q extglob; echo $?; shopt -u nullglob; shopt extglob nullglob login_shell interactive restricted_shell expand_aliases
### shift
set -- 1 2 3; shift 2; echo $1; shift 0; shift -1; echo $?; shift x; echo $?; shopt -s shift_verbose; shift 9; echo $?
### true, false, colon
true; echo $?; false; echo $?; : a >f; echo $?; cat f; ! :; echo $?
### caller
caller; echo $?; f() { caller; caller 0; }; f; (f); eval f
### times and logout
times | sed 's/[0-9]/N/g' | head -1 | cut -c1; logout; echo $?
### builtin usage errors
cd -z; echo $?; export -z; echo $?; unset -z; echo $?; trap -z; echo $?; wait -z; echo $?; exec -z; echo $?; jobs -z; echo $?
### exec with a program
exec echo replaced; echo not reached
### exec -a, -c, -l
(exec -a other bash -c 'echo $0'); (exec -c env); (exec -l bash -c 'echo $0; shopt login_shell'); x=1 exec env | grep ^x
### exec of nothing
exec nosuch; echo not reached
### exec of nothing with execfail
shopt -s execfail; exec nosuch; echo $?; exec /; echo $?; exec ./nox; echo $?
### exec redirections
exec >out; echo a; exec 2>err; nosuch; exec 3<out; cat <&3 >&2; ls /proc/self/fd | wc -l
### redirections
echo a >f; echo b >>f; cat <f; cat <f >g 2>&1; ls nosuch 2>/dev/null; ls nosuch &>h; cat h; echo x >&2; cat <nosuch; echo $?; echo >/; echo $?; echo a >""; echo $?
### descriptors
exec 3>f; echo a >&3; exec 3>&-; echo b >&3; echo $?; exec 4<f; read -u 4 x; echo $x; { echo c; } 5>&1 >&5; echo d 1>&9; echo $?
### {fd}>
exec {a}>f {b}<f; echo $a $b; echo hi >&$a; cat <&$b; exec {a}>&- {b}<&-; { echo $c; } {c}>g; echo $c; shopt varredir_close; exec {d}<>h; echo $d
### descriptor moves
exec 5>f; exec 6>&5-; echo a >&6; echo b >&5; echo $?; exec 200>g; echo c >&200; cat f g; exec 10>h; exec {z}>i; echo $z
### open descriptors
ls -l /proc/self/fd | sed 's/.*[0-9] \([0-9]* ->\)/\1/; s/[0-9]*\]$/N]/; s,/proc/[0-9]*/,/proc/N/,' | tail -n +2; ls /proc/$$/fd
### /dev/fd, /dev/std*
echo a >/dev/stdout; echo b >/dev/stderr; echo c >/dev/fd/1; cat /dev/fd/3 3<<<d; echo e | cat /dev/stdin; echo f | tee /dev/stderr >/dev/null
### /dev/tcp
echo x >/dev/tcp/127.0.0.1/1; echo $?; : </dev/udp/nosuch.invalid/1; echo $?
### BASH_LOADABLES_PATH
echo "[${BASH_LOADABLES_PATH-unset}]"; enable -f /no/such.so x; echo $?
### restricted
bash -rc 'cd /; echo $?'; set -r; cd /; echo >f; /bin/ls; PATH=/; echo $?
### test of many loops
x=0; for i in {1..50000}; do ((x+=i)); done; echo $x; s=; for ((i=0;i<5000;i++)); do s+=x; done; echo ${#s}
### many subshells
for i in {1..60}; do (exit $i); x=$((x+$?)); y=$(echo $i); done; echo $x $y
### many files
for i in {1..300}; do : >f$i; done; echo f* | wc -w; cat f* | wc -c; rm f*
### large output
for i in {1..3000}; do echo line $i; done | md5sum; printf '%50000s\n' x | wc -c
### binary output
printf '\0\1\2\377\376' | od -c; printf 'a\0b' | tr '\0' z; printf '\303\n'
### sub-processes see the same
bash -c 'echo $0 $# $- $SHLVL; shopt -p | md5sum; trap -p; env | sort'; sh -c 'set; trap' | grep -v PPID
### python sees the same
python3 -c 'import os,sys,signal,resource; print(os.getcwd(), sorted(os.environ), os.umask(0), os.nice(0), os.getgroups(), [s for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN], resource.getrlimit(resource.RLIMIT_STACK), sorted(int(f) for f in os.listdir("/proc/self/fd"))[:4])'
### perl sees the same
perl -e 'print "$0 $< $> $( $)\n"; print join(",", map {"$_=$ENV{$_}"} sort keys %ENV), "\n"'
### awk, sed, find, xargs
printf '3\n1\n2\n' | sort | xargs echo | sed 's/ /-/g' | awk -F- '{print $2, NR}'; mkdir d; touch d/x; find d | sort; seq 3 | xargs -n1 -P2 true; echo $?
